//! The clauses of a query that are not carried out: each that is set is refused at its place, none is ignored.

use datafusion_sql::sqlparser::ast::{
    Distinct, GroupByExpr, LimitClause, Query, Select, SelectFlavor, SetExpr, SetOperator, SetQuantifier, Spanned,
    WildcardAdditionalOptions,
};
use std::ops::Range;

use super::codes;
use super::text::Text;
use crate::model::diagnostic::{Diagnostic, Diagnostics, Place};

struct Refusals<'a> {
    text: &'a Text<'a>,
    /// The bytes of the query or SELECT.
    part: Range<usize>,
    found: Diagnostics,
}

impl Refusals<'_> {
    fn add(&mut self, set: bool, place: impl FnOnce(&Text<'_>) -> Place, what: &str, help: &str) {
        if set {
            let diagnostic = Diagnostic::error(codes::UNSUPPORTED, place(self.text), format!("{what} is not supported"));
            self.found.push(if help.is_empty() { diagnostic } else { diagnostic.help(help) });
        }
    }

    /// The same for a clause behind all others, that one of `words` begins.
    fn last(&mut self, set: bool, words: &[&str], what: &str, help: &str) {
        let part = self.part.clone();
        self.add(set, |text| text.place_of_last_in(&part, words), what, help);
    }

    /// The same for a clause that the first of `words` begins.
    fn word(&mut self, set: bool, words: &[&str], what: &str, help: &str) {
        let part = self.part.clone();
        self.add(set, |text| text.place_of_first_in(&part, words), what, help);
    }
}

/// What is refused of the clauses around a query's body.
pub(crate) fn query(query: &Query, text: &Text<'_>) -> Diagnostics {
    let part = text.block(first_byte(&query.body, text));
    let mut refusals = Refusals { text, part, found: Vec::new() };
    // Named one by one, so that a new field of the parser does not go unseen. Without a refusal: the body, which is bound.
    let Query { with, body: _, order_by, limit_clause, fetch, locks, for_clause, settings, format_clause, pipe_operators } =
        query;
    if let Some(with) = with {
        let help = "a query reads products, and not its own result: a product may be derived from another one again";
        refusals.word(with.recursive, &["RECURSIVE"], "WITH RECURSIVE", help);
        let hinted = with.cte_tables.iter().any(|cte| cte.materialized.is_some());
        refusals.word(hinted, &["MATERIALIZED"], "MATERIALIZED", "leave it out");
        refusals.word(with.cte_tables.iter().any(|cte| cte.from.is_some()), &["FROM"], "FROM behind a sub-query of WITH", "");
        refusals.word(with.cte_tables.iter().any(|cte| cte.alias.at.is_some()), &["AT"], "AT behind a name", "");
    }
    refusals.last(
        order_by.is_some(),
        &["ORDER"],
        "ORDER BY",
        "a stream has no end, and so no order but that of its event times; leave it out",
    );
    let offset = matches!(limit_clause, Some(LimitClause::LimitOffset { limit: None, .. }));
    let words = if offset { ["OFFSET"] } else { ["LIMIT"] };
    let limit =
        "a stream has no end; QUALIFY ROW_NUMBER() OVER (PARTITION BY .. ORDER BY ..) <= 10 keeps the first rows of each part";
    refusals.last(limit_clause.is_some(), &words, words[0], limit);
    refusals.last(fetch.is_some(), &["FETCH"], "FETCH", limit);
    refusals.last(!locks.is_empty() || for_clause.is_some(), &["FOR"], "FOR", "");
    refusals.last(settings.is_some(), &["SETTINGS"], "SETTINGS", "");
    refusals.last(format_clause.is_some(), &["FORMAT"], "FORMAT", "");
    refusals.word(!pipe_operators.is_empty(), &["|>"], "the pipe operator", "");
    refusals.found
}

/// Why a query's body is not carried out, if it is neither a SELECT nor a query in parentheses.
pub(crate) fn body(body: &SetExpr, text: &Text<'_>) -> Diagnostics {
    let part = text.block(first_byte(body, text));
    let mut refusals = Refusals { text, part, found: Vec::new() };
    match body {
        SetExpr::Select(_) | SetExpr::Query(_) => {}
        SetExpr::SetOperation { op, set_quantifier, .. } => {
            let (word, help) = match op {
                SetOperator::Union => ("UNION", "write UNION ALL"),
                SetOperator::Except | SetOperator::Minus => {
                    ("EXCEPT", "LEFT JOIN the other query on all columns, and keep the rows WHERE other.column IS NULL")
                }
                SetOperator::Intersect => ("INTERSECT", "JOIN the other query on all columns"),
            };
            let what = if *set_quantifier == SetQuantifier::All { format!("{word} ALL") } else { word.to_string() };
            refusals.word(true, &[word, "MINUS"], &what, help);
        }
        SetExpr::Values(_) => {
            refusals.word(true, &["VALUES"], "VALUES", "a product with `source: {replay: {..}}` brings given records in");
        }
        SetExpr::Table(_) => refusals.word(true, &["TABLE"], "TABLE", "write `SELECT * FROM ..`"),
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
            let words = &["INSERT", "UPDATE", "DELETE", "MERGE"];
            let help = "a derivation is a SELECT: mesh writes its result";
            refusals.word(true, words, "a statement that changes data", help);
        }
    }
    refusals.found
}

/// What is refused of the words behind UNION.
pub(crate) fn set_quantifier(quantifier: &SetQuantifier, body: &SetExpr, text: &Text<'_>) -> Diagnostics {
    let part = text.block(first_byte(body, text));
    let mut refusals = Refusals { text, part, found: Vec::new() };
    let by_name = matches!(quantifier, SetQuantifier::ByName | SetQuantifier::AllByName | SetQuantifier::DistinctByName);
    refusals.word(by_name, &["UNION"], "UNION BY NAME", "write the columns of each SELECT in the same order");
    refusals.found
}

/// Where a query's body starts, as far as the parser knows.
fn first_byte(body: &SetExpr, text: &Text<'_>) -> usize {
    match body {
        SetExpr::Select(select) => text.bytes(select.select_token.0.span).start,
        SetExpr::SetOperation { left, .. } => first_byte(left, text),
        SetExpr::Query(query) => first_byte(&query.body, text),
        other => text.bytes(other.span()).start,
    }
}

/// What is refused of a SELECT's clauses.
pub(crate) fn select(select: &Select, text: &Text<'_>) -> Diagnostics {
    let part = text.arm(text.bytes(select.select_token.0.span).start);
    let mut refusals = Refusals { text, part, found: Vec::new() };
    clauses(select, &mut refusals);
    refusals.found
}

fn clauses(select: &Select, refusals: &mut Refusals<'_>) {
    // Named one by one, so that a new field of the parser does not go unseen. Without a refusal: projection, from,
    // selection, group_by, having and qualify, which are bound; tokens, and hints that stand in comments.
    let Select {
        select_token: _,
        optimizer_hints: _,
        distinct,
        select_modifiers,
        top,
        top_before_distinct: _,
        projection,
        exclude,
        into,
        from,
        lateral_views,
        prewhere,
        selection: _,
        connect_by,
        group_by,
        cluster_by,
        distribute_by,
        sort_by,
        having: _,
        named_window,
        qualify: _,
        window_before_qualify: _,
        value_table_mode,
        flavor,
    } = select;
    refusals.word(
        matches!(distinct, Some(Distinct::On(_))),
        &["DISTINCT"],
        "DISTINCT ON",
        "write QUALIFY ROW_NUMBER() OVER (PARTITION BY .. ORDER BY ..) = 1",
    );
    refusals.word(select_modifiers.is_some(), &["SELECT"], "a modifier behind SELECT", "");
    refusals.word(top.is_some(), &["TOP"], "TOP", "write QUALIFY ROW_NUMBER() OVER (PARTITION BY .. ORDER BY ..) <= 10");
    refusals.word(projection.is_empty(), &["SELECT"], "a SELECT without columns", "write `SELECT * FROM ..`");
    refusals.word(
        exclude.is_some(),
        &["EXCLUDE"],
        "EXCLUDE behind the columns",
        "write it behind the `*`: `SELECT * EXCLUDE (column)`",
    );
    refusals.word(into.is_some(), &["INTO"], "INTO", "the result is written into the product's own topic");
    refusals.word(from.is_empty(), &["SELECT"], "a SELECT without FROM", "read a product: `SELECT .. FROM product`");
    refusals.word(!lateral_views.is_empty(), &["LATERAL"], "LATERAL VIEW", "");
    refusals.word(prewhere.is_some(), &["PREWHERE"], "PREWHERE", "write WHERE");
    refusals.word(!connect_by.is_empty(), &["CONNECT", "START"], "CONNECT BY", "");
    refusals.word(!cluster_by.is_empty(), &["CLUSTER"], "CLUSTER BY", "");
    refusals.word(
        !distribute_by.is_empty(),
        &["DISTRIBUTE"],
        "DISTRIBUTE BY",
        "the product's `key` says how records are distributed",
    );
    refusals.word(!sort_by.is_empty(), &["SORT"], "SORT BY", "");
    let help = "write the window behind OVER, in parentheses";
    refusals.word(!named_window.is_empty(), &["WINDOW"], "WINDOW", help);
    refusals.word(value_table_mode.is_some(), &["AS"], "SELECT AS VALUE or STRUCT", "");
    refusals.word(*flavor != SelectFlavor::Standard, &["FROM"], "a query that begins with FROM", "write `SELECT .. FROM ..`");
    let modifiers = match group_by {
        GroupByExpr::All(_) => {
            refusals.word(true, &["GROUP"], "GROUP BY ALL", "name the columns");
            return;
        }
        GroupByExpr::Expressions(_, modifiers) => modifiers,
    };
    refusals.last(!modifiers.is_empty(), &["WITH"], "a modifier of GROUP BY", "");
}

/// What is refused of a `*`; EXCEPT and EXCLUDE are carried out.
pub(crate) fn wildcard(options: &WildcardAdditionalOptions, text: &Text<'_>) -> Diagnostics {
    let WildcardAdditionalOptions {
        wildcard_token,
        opt_ilike,
        opt_exclude: _,
        opt_except: _,
        opt_replace,
        opt_rename,
        opt_alias,
    } = options;
    let from = text.bytes(wildcard_token.0.span).start;
    let mut refusals = Refusals { text, part: text.arm(from), found: Vec::new() };
    let mut word = |set: bool, word: &str, help: &str| {
        refusals.add(set, |text| text.place_of_word_after(&[word], from), &format!("`*` with {word}"), help);
    };
    word(opt_ilike.is_some(), "ILIKE", "name the columns");
    word(opt_replace.is_some(), "REPLACE", "write `* EXCEPT (column), expression AS column`");
    word(opt_rename.is_some(), "RENAME", "write `* EXCEPT (column), column AS name`");
    word(opt_alias.is_some(), "AS", "");
    refusals.found
}
