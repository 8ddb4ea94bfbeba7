//! FROM: the products and sub-queries that a SELECT reads, joined from the left to the right.

use datafusion_common::{Column, DFSchema};
use datafusion_sql::sqlparser::ast::{
    Expr as Ast, Ident, Join, JoinConstraint, JoinOperator, ObjectName, Select, TableAlias, TableFactor, TableVersion,
    TableWithJoins,
};
use std::sync::Arc;

use super::codes;
use super::join::{self, Conjunct, Near};
use super::names::Scope;
use super::nulls::{Facts, facts_of};
use super::parse::{name_of, relation_name};
use super::query::{Changes, JoinKind, Node};
use super::relations::{Input, Relation, Scanned, nearest, schema_of, some_of};
use super::subquery;
use super::top_n::{self, FirstRows};
use super::unnest::{self, Unnest};
use super::windows;
use crate::model::diagnostic::{Diagnostic, Place};
use crate::model::product::Shape;
use crate::model::row::ROWTIME;

/// The most relations that one FROM may join.
const MAX_JOINED: usize = 32;
/// The most relations that a query may name with all its sub-queries, each counted where it is used.
const MAX_RELATIONS: usize = 100;

/// A part of the dataflow with what joins have to know of it.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    pub(crate) node: Node,
    /// The input whose `rowtime` is the event time of the node's rows; `None` where it is the later of several.
    pub(crate) time: Option<usize>,
    /// Columns of which no two rows that are there have equal values, where such are known beside a key.
    pub(crate) unique: Option<Vec<Column>>,
    /// How far the event time of a stream's rows may be from that of the inputs that they are made of.
    pub(crate) near: Vec<Near>,
}

impl Side {
    /// The columns of a table's key; `None` for a stream, and for a table whose rows have no key.
    pub(crate) fn key(&self) -> Option<Vec<Column>> {
        let Changes::Upsert(key) = self.node.changes() else { return None };
        let columns = self.node.schema().columns();
        key.into_iter().map(|at| columns.get(at).cloned()).collect()
    }
}

/// FROM, bound.
#[derive(Debug)]
pub(crate) struct From {
    pub(crate) side: Side,
    /// What is known of the joined rows.
    pub(crate) facts: Facts,
    /// Columns that are equal to a column of the key in all rows, and that column.
    pub(crate) same: Vec<(Column, Column)>,
}

/// Binds FROM and its joins. `filter`: WHERE's conjuncts, from which the bounds on time of inner joins may be taken.
pub(crate) fn bind<'a>(select: &'a Select, scope: &mut Scope<'a>, filter: &mut Vec<Ast>) -> Option<From> {
    let named: Vec<Named<'a>> = select.from.iter().flat_map(named_in).collect();
    if let Some(beyond) = named.get(MAX_JOINED) {
        let place = scope.text.place(beyond.factor);
        let message = format!("a query joins at most {MAX_JOINED} relations, not {}", named.len());
        scope.diagnostics.push(Diagnostic::error(codes::TOO_LARGE, place, message).help("make a product of its own of a part"));
        return None;
    }
    // What follows would only repeat that a relation is not known.
    let related: Vec<Option<Related<'a>>> = named
        .iter()
        .map(|named| {
            let first = first_rows(named.factor, select, scope, filter);
            relation(named.factor, first, scope)
        })
        .collect();
    let related: Vec<Related<'a>> = related.into_iter().collect::<Option<_>>()?;
    check_aliases(&related, scope)?;
    let mut related = related.into_iter();
    let first = match related.next()? {
        Related::Factor(first) => first,
        Related::Unnest(unnest) => {
            let help = "write FROM product CROSS JOIN UNNEST(product.list) AS t(element)";
            refuse(scope, &unnest.place, "UNNEST as the first relation of FROM", help);
            return None;
        }
    };
    if first.as_of.is_some() {
        let message = "FOR SYSTEM_TIME AS OF stands behind a table that a stream is joined with";
        scope.diagnostics.push(Diagnostic::error(codes::JOIN, first.place.clone(), message).help("leave it out"));
    }
    let side = first.come_in_sight(scope);
    let mut from = Some(From { side, facts: Facts::new(), same: Vec::new() });
    // After a join that is wrong, the others are looked at too, only for what is wrong with them.
    for (at, (one, related)) in named.iter().skip(1).zip(related).enumerate() {
        // What WHERE asks is asked of the rows that a later join adds for the missing ones, too.
        let mut later = named.iter().skip(at + 2).filter_map(|named| named.join);
        let mut none = Vec::new();
        let filter = if later.any(|join| join::keeps_right(&join.join_operator)) { &mut none } else { &mut *filter };
        from = match related {
            Related::Factor(factor) => factor_joined(from, *factor, one.join, scope, filter),
            Related::Unnest(unnest) => {
                let outer = match one.join {
                    Some(join) => unnest::outer(&join.join_operator, &unnest.place, scope),
                    None => Some(false),
                };
                outer.and_then(|outer| unnest::bind(from, unnest, outer, scope))
            }
        };
        // An UNNEST that is wrong has no columns that names could be found among.
        if scope.inputs.len() < at + 2 {
            return None;
        }
    }
    scope.complete = true;
    from
}

/// A relation as FROM names it, with the join before it; the first one and those behind a comma have none.
struct Named<'a> {
    factor: &'a TableFactor,
    join: Option<&'a Join>,
}

fn named_in(tables: &TableWithJoins) -> impl Iterator<Item = Named<'_>> {
    let joins = tables.joins.iter().map(|join| Named { factor: &join.relation, join: Some(join) });
    std::iter::once(Named { factor: &tables.relation, join: None }).chain(joins)
}

/// How WHERE bounds the ROW_NUMBER() of a sub-query. What it says exactly is taken out of `filter`.
fn first_rows<'a>(factor: &'a TableFactor, select: &Select, scope: &Scope<'a>, filter: &mut Vec<Ast>) -> Option<FirstRows> {
    let (query, alias, known) = match factor {
        TableFactor::Derived { subquery, alias, .. } => (subquery.as_ref(), alias.as_ref(), None),
        TableFactor::Table { name, alias, args: None, .. } => {
            let name = relation_name(name)?;
            (subquery::in_with(&name, scope)?.1, alias.as_ref(), Some(name))
        }
        _ => return None,
    };
    let alias = alias.filter(|alias| alias.columns.is_empty()).map(|alias| name_of(&alias.name)).or(known)?;
    top_n::asked(query, &alias, select, filter)
}

/// Joins a product or sub-query to what stands left of it.
fn factor_joined(
    left: Option<From>,
    factor: Factor,
    join: Option<&Join>,
    scope: &mut Scope<'_>,
    filter: &mut Vec<Ast>,
) -> Option<From> {
    let on = match join {
        None => {
            refuse(scope, &factor.place, "a comma in FROM", "write `JOIN .. ON ..`");
            None
        }
        Some(join) => {
            if join.global {
                refuse(scope, &factor.place, "GLOBAL JOIN", "write JOIN");
            }
            let kind = operator(&join.join_operator, &factor, scope);
            kind.and_then(|(kind, constraint)| Some((kind, condition(constraint, &factor, scope)?)))
        }
    };
    let (place, as_of) = (factor.place.clone(), factor.as_of.clone());
    let right = factor.come_in_sight(scope);
    let (kind, on) = on?;
    joined(left, Joined { right, kind, on, place, as_of }, scope, filter)
}

/// A relation that is joined to those before it.
struct Joined<'q> {
    right: Side,
    kind: JoinKind,
    on: &'q Ast,
    place: Place,
    as_of: Option<Ast>,
}

/// Joins the next relation to what stands left of it.
fn joined(left: Option<From>, join: Joined<'_>, scope: &mut Scope<'_>, filter: &mut Vec<Ast>) -> Option<From> {
    let Joined { right, kind, on, place, as_of } = join;
    let schema = in_sight(scope);
    let mut conjuncts = Vec::new();
    let mut complete = true;
    for part in split(on) {
        match scope.bind_condition(part, &schema, "ON", super::forms::Aggregates::NotIn("ON")) {
            Some(bound) => conjuncts.push(bound),
            None => complete = false,
        }
    }
    if !complete {
        return None;
    }
    let From { side: left, mut facts, mut same } = left?;
    let newest = scope.inputs.len().checked_sub(1)?;
    let conjuncts: Vec<Conjunct> = conjuncts.into_iter().map(|bound| join::classify(bound, newest, scope)).collect();
    match kind {
        JoinKind::Inner => facts.extend(conjuncts.iter().flat_map(|c| facts_of(&c.bound.expr))),
        JoinKind::Left => {}
        // What is known of the left side's rows is not known of those that it lacks.
        JoinKind::Right => facts = Facts::new(),
        JoinKind::Full => facts = join::either_side(&conjuncts, &facts, &schema),
    }
    windows::in_time(&left.node, &right.node, &place, scope)?;
    let request = join::Request { left, right, kind, conjuncts, place, as_of };
    let side = join::join(request, scope, filter, &schema, &mut same)?;
    for (at, input) in scope.inputs.iter_mut().enumerate() {
        let (left, right) = (at < newest, at == newest);
        input.optional |= match kind {
            JoinKind::Inner => false,
            JoinKind::Left => right,
            JoinKind::Right => left,
            JoinKind::Full => true,
        };
    }
    Some(From { side, facts, same })
}

/// The columns of all relations in sight.
pub(crate) fn in_sight(scope: &Scope<'_>) -> DFSchema {
    let schemas: Vec<DFSchema> = scope.inputs.iter().map(Input::schema).collect();
    schema_of(schemas.iter().flat_map(|s| s.iter().map(|(q, f)| (q.cloned(), f.clone()))).collect())
}

/// The parts of a condition that are joined by AND.
pub(crate) fn split(condition: &Ast) -> Vec<&Ast> {
    let mut parts = Vec::new();
    let mut rest = vec![condition];
    while let Some(part) = rest.pop() {
        match part {
            Ast::BinaryOp { left, op: datafusion_sql::sqlparser::ast::BinaryOperator::And, right } => {
                rest.push(right);
                rest.push(left);
            }
            Ast::Nested(inner) if matches!(inner.as_ref(), Ast::BinaryOp { .. } | Ast::Nested(_) | Ast::Between { .. }) => {
                rest.push(inner);
            }
            other => parts.push(other),
        }
    }
    parts
}

/// A relation of FROM, before it is in sight.
enum Related<'a> {
    Factor(Box<Factor>),
    Unnest(Unnest<'a>),
}

impl Related<'_> {
    fn factor(factor: Factor) -> Self {
        Related::Factor(Box::new(factor))
    }

    fn alias(&self) -> &str {
        match self {
            Related::Factor(factor) => &factor.input.alias,
            Related::Unnest(unnest) => &unnest.alias,
        }
    }

    fn place(&self) -> &Place {
        match self {
            Related::Factor(factor) => &factor.place,
            Related::Unnest(unnest) => &unnest.place,
        }
    }
}

/// A product or sub-query of FROM, before it is in sight.
pub(crate) struct Factor {
    pub(crate) input: Input,
    /// Its rows: the columns of the input's schema.
    pub(crate) node: Node,
    /// Columns of which no two rows that are there have equal values, where such are known.
    pub(crate) unique: Option<Vec<Column>>,
    pub(crate) place: Place,
    pub(crate) as_of: Option<Ast>,
}

impl Factor {
    /// Its columns can be named from now on.
    fn come_in_sight(self, scope: &mut Scope<'_>) -> Side {
        let time = Some(scope.inputs.len());
        scope.inputs.push(self.input);
        let near = time.map(Near::same).into_iter().collect();
        Side { node: self.node, time, unique: self.unique, near }
    }
}

fn refuse(scope: &mut Scope<'_>, place: &Place, what: &str, help: &str) {
    let diagnostic = Diagnostic::error(codes::UNSUPPORTED, place.clone(), format!("{what} is not supported"));
    scope.diagnostics.push(if help.is_empty() { diagnostic } else { diagnostic.help(help) });
}

/// Binds one relation of FROM. The forms that are not carried out are refused.
fn relation<'a>(factor: &'a TableFactor, first: Option<FirstRows>, scope: &mut Scope<'a>) -> Option<Related<'a>> {
    let place = scope.text.place(factor);
    scope.relations += 1;
    if scope.relations > MAX_RELATIONS {
        // Said once: what stands behind it would only repeat it.
        if scope.relations == MAX_RELATIONS + 1 {
            let message =
                format!("the query reads more than {MAX_RELATIONS} relations, those of sub-queries counted at each use");
            let help = "make a product of its own of a part, and read that";
            scope.diagnostics.push(Diagnostic::error(codes::TOO_LARGE, place, message).help(help));
        }
        return None;
    }
    match factor {
        TableFactor::Table {
            name,
            alias,
            args,
            with_hints,
            version,
            with_ordinality,
            partitions,
            json_path,
            sample,
            index_hints,
        } => {
            let unnested = args.is_some() && relation_name(name).is_some_and(|name| name == "unnest");
            let mut refused = |set: bool, what: &str| {
                if set {
                    refuse(scope, &place, what, "name the product only");
                }
                set
            };
            let extra = refused(!with_hints.is_empty(), "a hint behind a relation")
                | refused(*with_ordinality && !unnested, "WITH ORDINALITY")
                | refused(!partitions.is_empty(), "PARTITION")
                | refused(json_path.is_some(), "a path behind a relation")
                | refused(sample.is_some(), "TABLESAMPLE")
                | refused(!index_hints.is_empty(), "an index hint")
                | refused(alias.as_ref().is_some_and(|a| a.at.is_some()), "AT behind a relation");
            if let Some(args) = args.as_ref().filter(|_| unnested && !extra && version.is_none()) {
                return unnest::read(args, alias.as_ref(), *with_ordinality, place, scope).map(Related::Unnest);
            }
            if let Some(arguments) = args {
                let called = name.to_string();
                if windows::is_window(&called) && !extra && version.is_none() {
                    let call = windows::Call { name, args: &arguments.args, alias: alias.as_ref(), place };
                    return windows::relation(call, scope).map(Related::factor);
                }
                refuse(scope, &place, &format!("the table function {called}"), "name a product");
                return None;
            }
            if extra {
                return None;
            }
            let as_of = match version {
                None => None,
                Some(TableVersion::ForSystemTimeAsOf(time)) => Some(time.clone()),
                Some(_) => {
                    refuse(
                        scope,
                        &place,
                        "this version of a table",
                        "write `FOR SYSTEM_TIME AS OF stream.rowtime`, or leave it out",
                    );
                    return None;
                }
            };
            Some(Related::factor(Factor { as_of, ..named(name, alias.as_ref(), first, scope)? }))
        }
        TableFactor::Derived { lateral: true, .. } | TableFactor::Function { lateral: true, .. } => {
            let help = "a sub-query in FROM sees only its own FROM: join the two on equal columns";
            let place = scope.text.place_of_word_before(&["LATERAL"], place_start(scope, &place));
            refuse(scope, &place, "LATERAL", help);
            None
        }
        TableFactor::Derived { sample: Some(_), .. } => {
            refuse(scope, &place, "TABLESAMPLE", "filter with WHERE");
            None
        }
        TableFactor::Derived { subquery, alias, lateral: false, sample: None } => {
            subquery::derived(subquery, alias.as_ref(), first, place, scope).map(Related::factor)
        }
        TableFactor::TableFunction { expr: Ast::Function(call), alias } if windows::is_window(&call.name.to_string()) => {
            match windows::plain_arguments(call) {
                Some(args) => {
                    let call = windows::Call { name: &call.name, args, alias: alias.as_ref(), place };
                    windows::relation(call, scope).map(Related::factor)
                }
                None => {
                    refuse(scope, &place, "this form of a window", &windows::example(&call.name.to_string()));
                    None
                }
            }
        }
        TableFactor::TableFunction { expr, .. } => {
            let name = match expr {
                Ast::Function(call) => super::forms::call_name(call),
                other => other.to_string(),
            };
            refuse(scope, &place, &format!("the table function {name}"), "name a product");
            None
        }
        TableFactor::NestedJoin { .. } => {
            refuse(
                scope,
                &place,
                "a join in parentheses",
                "joins are carried out from the left to the right: write them so, without parentheses",
            );
            None
        }
        TableFactor::UNNEST { .. } => {
            refuse(scope, &place, "UNNEST", "name a product");
            None
        }
        TableFactor::Function { .. }
        | TableFactor::JsonTable { .. }
        | TableFactor::OpenJsonTable { .. }
        | TableFactor::XmlTable { .. } => {
            refuse(scope, &place, "a table function", "name a product");
            None
        }
        TableFactor::Pivot { .. } | TableFactor::Unpivot { .. } => {
            refuse(scope, &place, "PIVOT or UNPIVOT", "name a product");
            None
        }
        TableFactor::MatchRecognize { .. } | TableFactor::SemanticView { .. } => {
            refuse(scope, &place, "this form of FROM", "name a product");
            None
        }
    }
}

/// What a name in FROM means under its alias: a sub-query of WITH, or else a product.
/// `first`: how WHERE bounds the sub-query's ROW_NUMBER().
pub(crate) fn named(
    name: &ObjectName,
    alias: Option<&TableAlias>,
    first: Option<FirstRows>,
    scope: &mut Scope<'_>,
) -> Option<Factor> {
    let place = scope.text.place(name);
    let called = relation_name(name).unwrap_or_default();
    if let Some((at, _)) = subquery::in_with(&called, scope) {
        return subquery::of_with(at, alias, first, place, scope);
    }
    let relation = product(name, scope)?;
    if let Some(column) = alias.and_then(|alias| alias.columns.first()) {
        let place = scope.text.place_of(column.name.span);
        refuse(scope, &place, "an alias with columns behind a product", "name the columns in the list: `SELECT column AS name`");
        return None;
    }
    let alias = alias.map_or(called, |alias| name_of(&alias.name));
    let key = relation.key.iter().filter_map(|column| relation.position(column)).collect();
    let changes = match relation.shape {
        Shape::Stream => Changes::Append,
        Shape::Table => Changes::Upsert(key),
    };
    let input = Input::product(alias.clone(), relation.clone());
    let node = Node::Scan { input: scope.scanned.len(), schema: Arc::new(input.schema()), changes };
    scope.scanned.push(Scanned { alias, relation });
    Some(Factor { input, node, unique: None, place, as_of: None })
}

/// The product of a name.
fn product(name: &ObjectName, scope: &mut Scope<'_>) -> Option<Arc<Relation>> {
    let place = scope.text.place(name);
    let Some(relation) = relation_name(name) else {
        let message = format!("unknown relation `{name}`: products are named without a schema before them");
        let last = name.0.last().map(ToString::to_string).unwrap_or_default();
        scope.diagnostics.push(Diagnostic::error(codes::UNKNOWN_RELATION, place, message).help(format!("write `{last}`")));
        return None;
    };
    let found = scope.products.find(&relation);
    if found.is_none() {
        let names = scope.products.names();
        let help = match nearest(&relation, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if names.is_empty() => "there is no product to read from".into(),
            None => format!("products are {}", some_of(names.iter().map(String::as_str))),
        };
        scope
            .diagnostics
            .push(Diagnostic::error(codes::UNKNOWN_RELATION, place.clone(), format!("unknown product `{relation}`")).help(help));
    }
    let relation = found?;
    if let Some(reason) = unfit(&relation) {
        let message = format!("{} can't be read: {reason}", relation.product);
        scope.diagnostics.push(Diagnostic::error(codes::UNREADABLE_COLUMN, place, message).help("change its contract"));
        return None;
    }
    Some(relation)
}

/// Why a product as a whole can't be read: each row needs its key and its time.
fn unfit(relation: &Relation) -> Option<String> {
    if relation.position(ROWTIME).is_some() {
        return Some(format!("its contract has a column `{ROWTIME}`, which is the name of every row's event time"));
    }
    let time = Some(&relation.time_field).filter(|field| *field != ROWTIME);
    let (column, what) = relation
        .key
        .iter()
        .map(|c| (c, "key"))
        .chain(time.map(|c| (c, "event time")))
        .find(|(c, _)| relation.position(c).is_none())?;
    let reason =
        relation.unsupported.iter().find(|(name, _)| name == column).map_or("the contract lacks it", |(_, reason)| reason);
    Some(format!("its {what} is the column `{column}`, and {reason}"))
}

fn check_aliases(related: &[Related<'_>], scope: &mut Scope<'_>) -> Option<()> {
    let mut fine = Some(());
    for (at, one) in related.iter().enumerate() {
        let same = |other: &&Related<'_>| other.alias().eq_ignore_ascii_case(one.alias());
        if let Some(first) = related.iter().take(at).find(same) {
            let message = format!("`{}` stands in FROM twice", one.alias());
            let diagnostic = Diagnostic::error(codes::NAMES, one.place().clone(), message)
                .help("give one of them another alias: `product AS other`");
            scope.diagnostics.push(diagnostic.related(first.place().clone(), "first here"));
            fine = None;
        }
    }
    fine
}

/// The kind of a join and its condition. All kinds that are not carried out are refused by name.
fn operator<'j>(operator: &'j JoinOperator, factor: &Factor, scope: &mut Scope<'_>) -> Option<(JoinKind, &'j JoinConstraint)> {
    let (what, help) = match operator {
        JoinOperator::Join(on) | JoinOperator::Inner(on) => return Some((JoinKind::Inner, on)),
        JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => return Some((JoinKind::Left, on)),
        JoinOperator::Right(on) | JoinOperator::RightOuter(on) => return Some((JoinKind::Right, on)),
        JoinOperator::FullOuter(on) => return Some((JoinKind::Full, on)),
        JoinOperator::CrossJoin(_) => {
            ("CROSS JOIN", "every row would meet every row that ever comes: write JOIN .. ON .. with equal columns")
        }
        JoinOperator::Semi(_) | JoinOperator::LeftSemi(_) => {
            ("SEMI JOIN", "write JOIN .. ON .., and only columns of the left side")
        }
        JoinOperator::Anti(_) | JoinOperator::LeftAnti(_) => ("ANTI JOIN", "write LEFT JOIN .. ON .. WHERE other.key IS NULL"),
        JoinOperator::RightSemi(_) | JoinOperator::RightAnti(_) => {
            ("RIGHT SEMI or ANTI JOIN", "write a JOIN, or a LEFT JOIN, with the sides exchanged")
        }
        JoinOperator::AsOf { .. } => ("ASOF JOIN", "write JOIN: a stream's row meets the table's row as of its own time"),
        JoinOperator::CrossApply | JoinOperator::OuterApply => ("APPLY", "write JOIN .. ON .."),
        JoinOperator::StraightJoin(_) => ("STRAIGHT_JOIN", "write JOIN"),
        JoinOperator::ArrayJoin | JoinOperator::LeftArrayJoin | JoinOperator::InnerArrayJoin => ("ARRAY JOIN", ""),
    };
    refuse(scope, &factor.place, what, help);
    None
}

/// The condition behind ON; USING and NATURAL are refused.
fn condition<'j>(constraint: &'j JoinConstraint, factor: &Factor, scope: &mut Scope<'_>) -> Option<&'j Ast> {
    match constraint {
        JoinConstraint::On(condition) => Some(condition),
        JoinConstraint::Using(columns) => {
            let alias = &factor.input.alias;
            let equal: Vec<String> = columns.iter().map(|column| format!("{alias}.{column} = other.{column}")).collect();
            let place = scope.text.place_of_word_after(&["USING"], place_start(scope, &factor.place));
            refuse(scope, &place, "USING", &format!("write ON {}", equal.join(" AND ")));
            None
        }
        JoinConstraint::Natural => {
            refuse(scope, &factor.place, "NATURAL JOIN", "name the columns: JOIN .. ON a.x = b.x");
            None
        }
        JoinConstraint::None => {
            let message = "a JOIN needs a condition";
            scope
                .diagnostics
                .push(Diagnostic::error(codes::JOIN, factor.place.clone(), message).help("write JOIN .. ON a.x = b.x"));
            None
        }
    }
}

/// Where a relation's name starts in the query's own text.
fn place_start(scope: &Scope<'_>, place: &Place) -> usize {
    let found = scope.text.lexemes.iter().find(|lexeme| scope.text.sql.place(lexeme.bytes.clone()).start == place.start);
    found.map_or(0, |lexeme| lexeme.bytes.start)
}

/// Whether a name, written out, is the event time of one input; that input.
pub(crate) fn event_time(names: &[Ident], scope: &Scope<'_>) -> Option<usize> {
    let [alias, column] = names else { return None };
    let input = scope.input(alias)?;
    scope.inputs.get(input)?.is_time(&column.value).then_some(input)
}
