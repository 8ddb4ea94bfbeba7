//! Column names of an expression: each is found in one relation of FROM, and written out as `"alias"."column"`.
//!
//! Unquoted names are matched as they are written, and else without regard to case.

use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion_sql::sqlparser::ast::{
    AccessExpr, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Subscript, Value, ValueWithSpan,
    VisitMut, VisitorMut,
};
use datafusion_sql::sqlparser::tokenizer::Span;

use super::codes;
use super::query::{ColumnUse, Emit};
use super::relations::{Input, Relations, Scanned, nearest, some_of};
use super::subquery::Cte;
use super::text::Text;
use crate::model::diagnostic::{Diagnostic, Diagnostics, Place};
use crate::model::row::ROWTIME;

/// The relations of FROM that are in sight, and what the whole query has read so far.
pub(crate) struct Scope<'a> {
    pub(crate) text: &'a Text<'a>,
    pub(crate) products: &'a dyn Relations,
    /// The relations of the innermost SELECT.
    pub(crate) inputs: Vec<Input>,
    /// Whether all relations of its FROM are in sight, so that unknown names are known to be wrong.
    pub(crate) complete: bool,
    /// The sub-queries of WITH that are in sight, the innermost last.
    pub(crate) ctes: Vec<Cte<'a>>,
    /// EMIT at the end of the text, and where it stands.
    pub(crate) emit: Option<(Emit, Place)>,
    /// The key of the product that the query makes.
    pub(crate) key: Vec<String>,
    /// How many sub-queries are around.
    pub(crate) depth: usize,
    /// How many relations FROM has named so far, in all sub-queries.
    pub(crate) relations: usize,
    /// How many bytes of sub-queries were bound so far.
    pub(crate) bound: usize,
    /// The products that are scanned, in the order of the text.
    pub(crate) scanned: Vec<Scanned>,
    pub(crate) uses: Vec<ColumnUse>,
    pub(crate) diagnostics: Diagnostics,
}

impl<'a> Scope<'a> {
    /// Nothing in sight yet.
    pub(crate) fn new(text: &'a Text<'a>, products: &'a dyn Relations) -> Self {
        Scope {
            text,
            products,
            inputs: Vec::new(),
            complete: false,
            ctes: Vec::new(),
            emit: None,
            key: Vec::new(),
            depth: 0,
            relations: 0,
            bound: 0,
            scanned: Vec::new(),
            uses: Vec::new(),
            diagnostics: Vec::new(),
        }
    }

    /// Binds a SELECT of its own, which sees nothing of the one around it.
    pub(crate) fn nested<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let inputs = std::mem::take(&mut self.inputs);
        let complete = std::mem::replace(&mut self.complete, false);
        self.depth += 1;
        let result = work(self);
        self.depth -= 1;
        self.inputs = inputs;
        self.complete = complete;
        result
    }
}

impl Scope<'_> {
    /// Writes all names of the expression out; `false` if one of them could not be found (the reason is kept).
    pub(crate) fn resolve(&mut self, expr: &mut Expr) -> bool {
        let before = self.diagnostics.len();
        let _ = expr.visit(&mut Names { scope: self });
        self.diagnostics.len() == before
    }

    /// The input with that alias.
    pub(crate) fn input(&self, alias: &Ident) -> Option<usize> {
        let exact = self.inputs.iter().position(|input| input.alias == alias.value);
        exact.or_else(|| {
            let same = |input: &Input| alias.quote_style.is_none() && input.alias.eq_ignore_ascii_case(&alias.value);
            self.inputs.iter().position(same)
        })
    }

    /// Remembers that a column is read at a place.
    pub(crate) fn read(&mut self, input: usize, column: &str, place: Place) {
        // What a sub-query reads was remembered inside it.
        let Some(relation) = self.inputs.get(input).and_then(|input| input.product.as_ref()) else { return };
        let column = if column == ROWTIME { relation.time_field.as_str() } else { column };
        if column != ROWTIME && relation.position(column).is_some() {
            self.uses.push(ColumnUse { product: relation.product.clone(), column: column.to_string(), place });
        }
    }

    fn refuse(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// The one input that has the column, by the column's exact name. Refuses none and several.
    fn find(&mut self, column: &Ident) -> Option<(usize, String)> {
        let found: Vec<(usize, String)> =
            self.inputs.iter().enumerate().filter_map(|(at, input)| column_of(input, column).map(|name| (at, name))).collect();
        match found.as_slice() {
            [one] => Some(one.clone()),
            [] => {
                self.unknown_column(column);
                None
            }
            several => {
                let aliases: Vec<&str> =
                    several.iter().filter_map(|(at, _)| self.inputs.get(*at)).map(|i| i.alias.as_str()).collect();
                let message = format!("`{}` is ambiguous: {} have it", column.value, aliases.join(" and "));
                let help = aliases.first().map(|alias| format!("write `{alias}.{}`", column.value)).unwrap_or_default();
                let place = self.text.place_of(column.span);
                self.refuse(Diagnostic::error(codes::AMBIGUOUS, place, message).help(help));
                None
            }
        }
    }

    fn unknown_column(&mut self, column: &Ident) {
        let place = self.text.place_of(column.span);
        let unreadable =
            self.inputs.iter().find_map(|input| unreadable(input, column).map(|reason| (input.alias.clone(), reason)));
        if let Some((alias, reason)) = unreadable {
            self.refuse(Diagnostic::error(
                codes::UNREADABLE_COLUMN,
                place,
                format!("column `{alias}.{}` can't be read: {reason}", column.value),
            ));
            return;
        }
        let double_quoted = column.quote_style == Some('"');
        let candidates = self.inputs.iter().flat_map(Input::columns);
        let help = match nearest(&column.value, candidates) {
            Some(near) => format!("did you mean `{near}`?"),
            None if double_quoted => format!("double quotes make a name: write '{}' for text", column.value),
            None => match self.inputs.as_slice() {
                [one] => format!("{} has {}", one.alias, some_of(one.columns())),
                several => format!("none of {} has it", some_of(several.iter().map(|i| i.alias.as_str()))),
            },
        };
        self.refuse(Diagnostic::error(codes::UNKNOWN_COLUMN, place, format!("unknown column `{}`", column.value)).help(help));
    }

    /// The column of one input, by its exact name. Refuses an unknown one.
    pub(crate) fn find_in(&mut self, input: usize, column: &Ident) -> Option<String> {
        let owner = self.inputs.get(input)?;
        if let Some(name) = column_of(owner, column) {
            return Some(name);
        }
        let place = self.text.place_of(column.span);
        let diagnostic = match unreadable(owner, column) {
            Some(reason) => Diagnostic::error(
                codes::UNREADABLE_COLUMN,
                place,
                format!("column `{}.{}` can't be read: {reason}", owner.alias, column.value),
            ),
            None => {
                let help = match nearest(&column.value, owner.columns()) {
                    Some(near) => format!("did you mean `{}.{near}`?", owner.alias),
                    None => format!("{} has {}", owner.alias, some_of(owner.columns())),
                };
                Diagnostic::error(codes::UNKNOWN_COLUMN, place, format!("{} has no column `{}`", owner.alias, column.value))
                    .help(help)
            }
        };
        self.refuse(diagnostic);
        None
    }

    /// Checks `.field.field` behind a column: each must be a field of a struct.
    fn check_fields(&mut self, input: usize, column: &str, fields: &mut [Ident]) -> bool {
        let mut t = self.inputs.get(input).and_then(|input| input.column(column));
        let mut so_far = column.to_string();
        for field in fields {
            let place = self.text.place_of(field.span);
            let Some(DataType::Struct(children)) = &t else {
                let name = t.as_ref().map(crate::model::row::type_name).unwrap_or_default();
                self.refuse(
                    Diagnostic::error(
                        codes::UNKNOWN_COLUMN,
                        place,
                        format!("`{so_far}` is {name} and has no field `{}`", field.value),
                    )
                    .help("only a STRUCT has fields; write `map['key']` and `array[1]` for the others"),
                );
                return false;
            };
            let exact = children.iter().find(|f| *f.name() == field.value);
            let loose = || children.iter().find(|f| field.quote_style.is_none() && f.name().eq_ignore_ascii_case(&field.value));
            let Some(child) = exact.or_else(loose) else {
                let help = match nearest(&field.value, children.iter().map(|f| f.name().as_str())) {
                    Some(near) => format!("did you mean `{so_far}.{near}`?"),
                    None => format!("it has {}", some_of(children.iter().map(|f| f.name().as_str()))),
                };
                let message = format!("`{so_far}` has no field `{}`", field.value);
                self.refuse(Diagnostic::error(codes::UNKNOWN_COLUMN, place, message).help(help));
                return false;
            };
            field.value = child.name().clone();
            field.quote_style = Some('"');
            so_far = format!("{so_far}.{}", field.value);
            t = Some(child.data_type().clone());
        }
        true
    }

    /// Writes out a name of one or more parts: `column`, `alias.column`, and fields of structs behind them.
    fn write_out(&mut self, parts: &[Ident]) -> Option<Expr> {
        let (first, rest) = parts.split_first()?;
        let (input, column, column_span, mut fields) = match (self.input(first), rest.split_first()) {
            (Some(input), Some((column, fields))) => (input, self.find_in(input, column)?, column.span, fields.to_vec()),
            _ => {
                if !rest.is_empty() && !self.inputs.iter().any(|input| column_of(input, first).is_some()) {
                    self.unknown_alias(first);
                    return None;
                }
                let (input, column) = self.find(first)?;
                (input, column, first.span, rest.to_vec())
            }
        };
        if !self.check_fields(input, &column, &mut fields) {
            return None;
        }
        let span = parts.iter().fold(first.span, |span, part| span.union(&part.span));
        let place = self.text.place_of(span);
        self.read(input, &column, place);
        let alias = self.inputs.get(input)?.alias.clone();
        let mut names = vec![quoted(alias, first.span), quoted(column, column_span)];
        names.append(&mut fields);
        Some(Expr::CompoundIdentifier(names))
    }

    fn unknown_alias(&mut self, alias: &Ident) {
        let aliases: Vec<&str> = self.inputs.iter().map(|i| i.alias.as_str()).collect();
        let called = |input: &&Input| input.name.eq_ignore_ascii_case(&alias.value);
        let renamed = self.inputs.iter().find(called).map(|input| format!("it is called `{}` here", input.alias));
        let help = match nearest(&alias.value, aliases.iter().copied()) {
            _ if renamed.is_some() => renamed.unwrap_or_default(),
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("FROM has {}", some_of(aliases)),
        };
        let place = self.text.place_of(alias.span);
        self.refuse(
            Diagnostic::error(codes::UNKNOWN_RELATION, place, format!("FROM has no relation `{}`", alias.value)).help(help),
        );
    }
}

/// A column's exact name in an input.
fn column_of(input: &Input, column: &Ident) -> Option<String> {
    let exact = input.columns().find(|name| *name == column.value);
    let loose = || {
        let mut same = input.columns().filter(|name| column.quote_style.is_none() && name.eq_ignore_ascii_case(&column.value));
        same.next().filter(|_| same.next().is_none())
    };
    exact.or_else(loose).map(str::to_string)
}

/// Why a column of the contract can't be read, if that is so.
fn unreadable(input: &Input, column: &Ident) -> Option<String> {
    input.unsupported.iter().find(|(name, _)| name.eq_ignore_ascii_case(&column.value)).map(|(_, reason)| reason.clone())
}

fn quoted(name: String, span: Span) -> Ident {
    Ident { value: name, quote_style: Some('"'), span }
}

/// Walks an expression and writes its names out. Sub-queries were refused before.
struct Names<'s, 'a> {
    scope: &'s mut Scope<'a>,
}

impl VisitorMut for Names<'_, '_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundFieldAccess { root, access_chain } = expr {
            gather_root(root, access_chain);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let parts = match expr {
            Expr::Identifier(name) => vec![name.clone()],
            Expr::CompoundIdentifier(parts) => parts.clone(),
            Expr::Function(call) => {
                count_of_rows(call);
                return ControlFlow::Continue(());
            }
            _ => return ControlFlow::Continue(()),
        };
        if let Some(written) = self.scope.write_out(&parts) {
            *expr = written;
        }
        ControlFlow::Continue(())
    }
}

/// `count(*)` counts rows, as `count(1)` does.
fn count_of_rows(call: &mut Function) {
    if let FunctionArguments::List(list) = &mut call.args
        && let [FunctionArg::Unnamed(argument @ FunctionArgExpr::Wildcard)] = list.args.as_mut_slice()
    {
        *argument = FunctionArgExpr::Expr(Expr::Value(Value::Number("1".into(), false).with_empty_span()));
    }
}

/// `a . b [1] . c` as the parser gives it: the names before the first subscript belong to the root, and `.c` behind
/// one is the subscript `['c']`.
fn gather_root(root: &mut Box<Expr>, access_chain: &mut Vec<AccessExpr>) {
    if let Expr::Identifier(first) = root.as_ref() {
        let mut names = vec![first.clone()];
        while let Some(AccessExpr::Dot(Expr::Identifier(name))) = access_chain.first() {
            names.push(name.clone());
            access_chain.remove(0);
        }
        **root = Expr::CompoundIdentifier(names);
    }
    for access in access_chain {
        if let AccessExpr::Dot(Expr::Identifier(name)) = access {
            let value = Value::SingleQuotedString(name.value.clone());
            *access = AccessExpr::Subscript(Subscript::Index { index: Expr::Value(ValueWithSpan { value, span: name.span }) });
        }
    }
}
