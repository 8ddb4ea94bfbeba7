//! Windows of event time: TUMBLE, HOP, CUMULATE and SESSION in FROM, the groups of their rows, and EMIT.
//!
//! `TABLE(TUMBLE(TABLE product, DESCRIPTOR(rowtime), INTERVAL '10' MINUTE))` is the relation with two more columns,
//! `window_start` and `window_end`. A GROUP BY that names one of them makes groups that close.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef};
use datafusion_common::{Column, DFSchema, TableReference};
use datafusion_expr::Expr;
use datafusion_sql::sqlparser::ast::{
    Expr as Ast, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, ObjectNamePart, TableAlias,
    WindowType,
};

use super::codes;
use super::forms::Aggregates;
use super::from::{Factor, named};
use super::join::interval_ms;
use super::names::Scope;
use super::query::{Changes, Emit, Node, WindowGroup, Windows};
use super::relations::{Input, schema_of, some_of};
use crate::model::diagnostic::{Code, Diagnostic, Place};
use crate::model::row::{RowType, rowtime_type};

/// The columns that a window adds.
const START: &str = "window_start";
const END: &str = "window_end";

/// The most windows that one row may belong to: each is a row of its own.
const MAX_WINDOWS: i64 = 1500;

/// A window's name and what stands in its parentheses, in order; `grace` and `offset` only by name.
struct Form {
    name: &'static str,
    arguments: &'static [&'static str],
    optional: &'static [&'static str],
    example: &'static str,
}

const FORMS: [Form; 4] = [
    Form {
        name: "tumble",
        arguments: &["data", "timecol", "size"],
        optional: &["offset", "grace"],
        example: "TABLE(TUMBLE(TABLE product, DESCRIPTOR(rowtime), INTERVAL '10' MINUTE))",
    },
    Form {
        name: "hop",
        arguments: &["data", "timecol", "slide", "size"],
        optional: &["offset", "grace"],
        example: "TABLE(HOP(TABLE product, DESCRIPTOR(rowtime), INTERVAL '5' MINUTE, INTERVAL '10' MINUTE)), the step before the size",
    },
    Form {
        name: "cumulate",
        arguments: &["data", "timecol", "step", "size"],
        optional: &["offset", "grace"],
        example: "TABLE(CUMULATE(TABLE product, DESCRIPTOR(rowtime), INTERVAL '10' MINUTE, INTERVAL '1' HOUR)), the step before the size",
    },
    Form {
        name: "session",
        arguments: &["data", "timecol", "gap"],
        optional: &["grace"],
        example: "TABLE(SESSION(TABLE product PARTITION BY column, DESCRIPTOR(rowtime), INTERVAL '10' MINUTE))",
    },
];

/// What FROM knows of a window.
#[derive(Debug, Clone)]
pub(crate) struct Windowed {
    name: &'static str,
    /// How long groups stay open behind the end of their window. Sessions wait themselves.
    grace_ms: i64,
    /// Where the grace stands, if a GROUP BY has to use it.
    grace: Option<Place>,
}

/// Whether a function is a window.
pub(crate) fn is_window(name: &str) -> bool {
    form(name).is_some()
}

fn form(name: &str) -> Option<&'static Form> {
    FORMS.iter().find(|form| form.name.eq_ignore_ascii_case(name))
}

/// How a window is written, for a help line.
pub(crate) fn example(name: &str) -> String {
    form(name).map(|form| format!("write FROM {}", form.example)).unwrap_or_default()
}

/// That a window stands where no relation does.
pub(crate) fn misplaced(place: Place, name: &str) -> Diagnostic {
    let message = format!("{} is a window, which stands in FROM and adds the columns {START} and {END}", name.to_uppercase());
    Diagnostic::error(codes::UNSUPPORTED, place, message).help(format!("{}, and GROUP BY {START}, {END}", example(name)))
}

/// `TABLE relation [PARTITION BY ..]` among the arguments, as the parser's dialect hands it on: a call of `TABLE`.
pub(crate) fn table_argument(ast: &Ast) -> Option<(&Ident, &[Ast])> {
    let Ast::Function(Function { name, args: FunctionArguments::List(list), over, .. }) = ast else { return None };
    let [ObjectNamePart::Identifier(table)] = name.0.as_slice() else { return None };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Ast::Identifier(relation)))] = list.args.as_slice() else { return None };
    let partition = match over {
        Some(WindowType::WindowSpec(spec)) => spec.partition_by.as_slice(),
        _ => &[],
    };
    // The dialect alone writes it so: a name in a query is not empty.
    (table.value.is_empty()).then_some((relation, partition))
}

/// What stands in the parentheses of a call, if nothing else stands around them.
pub(crate) fn plain_arguments(call: &Function) -> Option<&[FunctionArg]> {
    let Function { parameters, args: FunctionArguments::List(list), filter, null_treatment, over, within_group, .. } = call
    else {
        return None;
    };
    let plain = *parameters == FunctionArguments::None
        && filter.is_none()
        && null_treatment.is_none()
        && over.is_none()
        && within_group.is_empty()
        && list.duplicate_treatment.is_none()
        && list.clauses.is_empty();
    plain.then_some(list.args.as_slice())
}

/// A window in FROM as it is called.
pub(crate) struct Call<'a> {
    pub(crate) name: &'a ObjectName,
    pub(crate) args: &'a [FunctionArg],
    pub(crate) alias: Option<&'a TableAlias>,
    pub(crate) place: Place,
}

/// An argument with its place.
struct Argument<'a> {
    value: &'a Ast,
    place: Place,
}

/// The arguments of a window by their names.
struct Arguments<'a> {
    form: &'static Form,
    at: Place,
    given: BTreeMap<&'static str, Argument<'a>>,
}

/// Binds a window in FROM.
pub(crate) fn relation<'a>(call: Call<'a>, scope: &mut Scope<'a>) -> Option<Factor> {
    let at = scope.text.known_place(call.name).unwrap_or_else(|| call.place.clone());
    let form = form(&call.name.to_string())?;
    let arguments = arguments(form, &call, at, scope)?;
    let Some((relation, partition)) = arguments.get("data").and_then(|data| table_argument(data.value)) else {
        let place = arguments.get("data").map_or(arguments.at.clone(), |data| data.place.clone());
        return refuse(scope, codes::UNSUPPORTED, place, "a window is over a relation that TABLE names", arguments.example());
    };
    if let Some(column) = call.alias.and_then(|alias| alias.columns.first()) {
        let place = scope.text.place_of(column.name.span);
        let help = "name the columns in the list: `SELECT column AS name`";
        return refuse(scope, codes::UNSUPPORTED, place, "an alias with columns behind a window is not supported", help.into());
    }
    let place = scope.text.place_of(relation.span);
    let name = ObjectName::from(vec![relation.clone()]);
    let factor = named(&name, call.alias, None, scope)?;
    appends(&factor, form, &place, scope)?;
    is_event_time(&arguments, &factor.input, scope)?;
    if !partition.is_empty() && form.name != "session" {
        let place = scope.text.place_of(relation.span);
        let message =
            format!("PARTITION BY has no meaning for {}, whose windows are the same for all rows", form.name.to_uppercase());
        return refuse(scope, codes::UNSUPPORTED, place, message, "leave it out, and GROUP BY the columns".into());
    }
    let partition = bound_partition(partition, &factor.input, scope)?;
    let (windows, windowed) = windows(&arguments, partition, scope)?;
    with_bounds(factor, windows, windowed, arguments.at, scope)
}

impl<'a> Arguments<'a> {
    fn get(&self, name: &str) -> Option<&Argument<'a>> {
        self.given.get(name)
    }

    fn example(&self) -> String {
        example(self.form.name)
    }

    /// A length of time in milliseconds; `None` with a diagnostic if it is none.
    fn ms(&self, name: &str, scope: &mut Scope<'_>) -> Option<Option<i64>> {
        let Some(Argument { value, place }) = self.get(name) else { return Some(None) };
        let before = scope.diagnostics.len();
        let bound = scope.nested(|scope| scope.bind(value, &DFSchema::empty(), place, Aggregates::NotIn("a window")));
        // Why something else can't be bound does not matter.
        scope.diagnostics.truncate(before);
        match bound.and_then(|bound| interval_ms(&bound.expr)) {
            Some(ms) => Some(Some(ms)),
            None => {
                let message = format!("the {name} of a window is an interval of whole milliseconds");
                let help = "write INTERVAL '10' MINUTE; a month or a year has no fixed length: write days";
                refuse(scope, codes::TYPE_MISMATCH, place.clone(), message, help.into())
            }
        }
    }

    fn place(&self, name: &str) -> Place {
        self.get(name).map_or_else(|| self.at.clone(), |argument| argument.place.clone())
    }
}

/// Sorts what stands in the parentheses.
fn arguments<'a>(form: &'static Form, call: &Call<'a>, at: Place, scope: &mut Scope<'a>) -> Option<Arguments<'a>> {
    let mut arguments = Arguments { form, at, given: BTreeMap::new() };
    let mut positional = form.arguments.iter().chain(form.optional.first().filter(|name| **name == "offset"));
    for arg in call.args {
        let (name, value) = match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => (positional.next().copied(), value),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => {
                let known = form.arguments.iter().chain(form.optional).find(|known| known.eq_ignore_ascii_case(&name.value));
                if known.is_none() {
                    let place = scope.text.place_of(name.span);
                    let message = format!("{} has no argument `{}`", form.name.to_uppercase(), name.value);
                    let names = some_of(form.arguments.iter().chain(form.optional).copied());
                    return refuse(scope, codes::UNSUPPORTED, place, message, format!("its arguments are {names}"));
                }
                (known.copied(), value)
            }
            _ => {
                return refuse(
                    scope,
                    codes::UNSUPPORTED,
                    arguments.at,
                    "this argument of a window is not supported",
                    example(form.name),
                );
            }
        };
        let place = match table_argument(value) {
            Some((relation, _)) => scope.text.place_of(relation.span),
            None => scope.text.place_of_expr(value).unwrap_or_else(|| arguments.at.clone()),
        };
        let fresh = name.is_some_and(|name| arguments.given.insert(name, Argument { value, place: place.clone() }).is_none());
        if !fresh {
            let message = match name {
                Some(name) => format!("the {name} of the window is given twice"),
                None => format!("{} takes no more than {}", form.name.to_uppercase(), form.arguments.join(", ")),
            };
            return refuse(scope, codes::UNSUPPORTED, place, message, arguments.example());
        }
    }
    match form.arguments.iter().find(|name| !arguments.given.contains_key(*name)) {
        None => Some(arguments),
        Some(name) => {
            let message = format!("{} lacks its {name}", form.name.to_uppercase());
            refuse(scope, codes::UNSUPPORTED, arguments.at.clone(), message, arguments.example())
        }
    }
}

fn refuse<T>(scope: &mut Scope<'_>, code: Code, place: Place, message: impl Into<String>, help: String) -> Option<T> {
    scope.diagnostics.push(Diagnostic::error(code, place, message.into()).help(help));
    None
}

/// A window is over rows that are only added, and that come about when they are.
fn appends(factor: &Factor, form: &Form, place: &Place, scope: &mut Scope<'_>) -> Option<()> {
    if factor.node.changes() != Changes::Append {
        let message = format!(
            "{} is over a table: its rows are replaced and deleted, so no window of them would ever be final",
            form.name.to_uppercase()
        );
        let help = format!("read the stream that `{}` is made of, or GROUP BY without a window", factor.input.name);
        return refuse(scope, codes::GROUPING, place.clone(), message, help);
    }
    if come_late(&factor.node) {
        let message =
            "the rows of a session come when it has closed, long after their event times, so no other window can wait for them";
        return refuse(scope, codes::GROUPING, place.clone(), message, "GROUP BY the session first".into());
    }
    Some(())
}

/// Whether a node's rows come when a session has closed, with their own event times.
pub(crate) fn come_late(node: &Node) -> bool {
    match node {
        Node::Window { windows: Windows::Session { .. }, .. } => true,
        Node::Aggregate { .. } => false,
        _ => node.inputs().into_iter().any(come_late),
    }
}

/// The rows of a session are not joined: those of the other side would have gone when they come.
pub(crate) fn in_time(left: &Node, right: &Node, place: &Place, scope: &mut Scope<'_>) -> Option<()> {
    if !come_late(left) && !come_late(right) {
        return Some(());
    }
    let message = "the rows of a session come when it has closed, long after their event times, so they can't be joined";
    let help = "GROUP BY the session in a sub-query and join its groups, or join before the session: `SESSION(TABLE joined ..)`";
    refuse(scope, codes::JOIN, place.clone(), message, help.into())
}

/// DESCRIPTOR names the event time.
fn is_event_time(arguments: &Arguments<'_>, input: &Input, scope: &mut Scope<'_>) -> Option<()> {
    let place = arguments.place("timecol");
    let column = arguments.get("timecol").and_then(|time| descriptor(time.value));
    let Some(column) = column else {
        return refuse(
            scope,
            codes::UNSUPPORTED,
            place,
            "DESCRIPTOR names the column that is the event time",
            arguments.example(),
        );
    };
    let same = |time: &str| time == column.value || (column.quote_style.is_none() && time.eq_ignore_ascii_case(&column.value));
    if input.columns().any(|name| same(name) && input.is_time(name)) {
        return Some(());
    }
    let message = match input.columns().any(same) {
        true => format!("`{}` is not the event time of `{}`: a window is over event time", column.value, input.name),
        false => format!("`{}` has no column `{}`", input.name, column.value),
    };
    let place = scope.text.place_of(column.span);
    let help = "write DESCRIPTOR(rowtime); which column it is says `time.field` in the product's manifest";
    refuse(scope, codes::GROUPING, place, message, help.into())
}

/// The column in `DESCRIPTOR(column)`.
fn descriptor(ast: &Ast) -> Option<&Ident> {
    let Ast::Function(call) = ast else { return None };
    let FunctionArguments::List(list) = &call.args else { return None };
    match (call.name.0.as_slice(), list.args.as_slice()) {
        ([ObjectNamePart::Identifier(name)], [FunctionArg::Unnamed(FunctionArgExpr::Expr(Ast::Identifier(column)))])
            if name.value.eq_ignore_ascii_case("descriptor") =>
        {
            Some(column)
        }
        _ => None,
    }
}

/// The columns that sessions are partitioned by.
fn bound_partition(partition: &[Ast], input: &Input, scope: &mut Scope<'_>) -> Option<Vec<Expr>> {
    let schema = input.schema();
    scope.nested(|scope| {
        scope.inputs.push(input.clone());
        scope.complete = true;
        let mut bound = Vec::new();
        for ast in partition {
            let around = scope.text.place(ast);
            bound.push(scope.bind(ast, &schema, &around, Aggregates::NotIn("PARTITION BY"))?.expr);
        }
        Some(bound)
    })
}

/// The windows that the arguments say.
fn windows(arguments: &Arguments<'_>, partition: Vec<Expr>, scope: &mut Scope<'_>) -> Option<(Windows, Windowed)> {
    let form = arguments.form;
    let mut ms = |name: &str| arguments.ms(name, scope);
    let (size, step, gap) = (ms("size")?, ms("step")?.or(ms("slide")?), ms("gap")?);
    let (offset_ms, grace_ms) = (ms("offset")?.unwrap_or(0), ms("grace")?.unwrap_or(0));
    for (name, length) in [("size", size), ("step", step), ("slide", step), ("gap", gap)] {
        if arguments.get(name).is_some() && length.is_some_and(|ms| ms <= 0) {
            let message = format!("the {name} of a window is longer than nothing");
            return refuse(scope, codes::TYPE_MISMATCH, arguments.place(name), message, arguments.example());
        }
    }
    if grace_ms < 0 {
        let help = "leave it out, or write how long a window waits for rows that are late";
        return refuse(
            scope,
            codes::TYPE_MISMATCH,
            arguments.place("grace"),
            "the grace of a window is not negative",
            help.into(),
        );
    }
    let grace = arguments.get("grace").map(|grace| grace.place.clone());
    let mut windowed = Windowed { name: form.name, grace_ms, grace };
    let windows = match (size, step, gap) {
        (Some(size_ms), None, _) => Windows::Tumble { size_ms, offset_ms },
        (Some(size_ms), Some(step_ms), _) => {
            check_steps(form, (size_ms, step_ms), arguments, scope)?;
            if form.name == "hop" {
                Windows::Hop { size_ms, step_ms, offset_ms }
            } else {
                Windows::Cumulate { size_ms, step_ms, offset_ms }
            }
        }
        (None, _, Some(gap_ms)) => {
            windowed = Windowed { grace_ms: 0, grace: None, ..windowed };
            Windows::Session { gap_ms, grace_ms, partition }
        }
        (None, ..) => return None,
    };
    Some((windows, windowed))
}

/// Each row belongs to a window, and not to too many.
fn check_steps(form: &Form, (size, step): (i64, i64), arguments: &Arguments<'_>, scope: &mut Scope<'_>) -> Option<()> {
    let place = arguments.place(if form.name == "hop" { "slide" } else { "step" });
    if step > size {
        let message =
            format!("the step of {step} ms is longer than the size of {size} ms: rows between two windows would be lost");
        let help = "the step stands before the size; if that is meant, TUMBLE the step and filter with WHERE";
        return refuse(scope, codes::GROUPING, place, message, help.into());
    }
    if form.name == "cumulate" && size % step != 0 {
        let message = format!("the size of {size} ms is not a multiple of the step of {step} ms");
        return refuse(scope, codes::GROUPING, place, message, "choose a step that divides the size".into());
    }
    let most = size / step + i64::from(size % step != 0);
    if most > MAX_WINDOWS {
        let message = format!("each row would belong to {most} windows, more than {MAX_WINDOWS}, and be computed as often");
        let help = format!("choose a step of at least {} ms", size / MAX_WINDOWS + i64::from(size % MAX_WINDOWS != 0));
        return refuse(scope, codes::TOO_LARGE, place, message, help);
    }
    Some(())
}

/// The relation with the windows' bounds behind its columns.
fn with_bounds(factor: Factor, windows: Windows, windowed: Windowed, at: Place, scope: &mut Scope<'_>) -> Option<Factor> {
    let Factor { mut input, node, place, .. } = factor;
    if let Some(column) = input.columns().find(|name| name.eq_ignore_ascii_case(START) || name.eq_ignore_ascii_case(END)) {
        let message = format!("`{}` has a column `{column}` already, which is the name of a window's bound", input.name);
        let help = format!("give it another name in a sub-query: `WITH w AS (SELECT {column} AS inner_{column}, ..)`");
        return refuse(scope, codes::NAMES, at, message, help);
    }
    let bounds: [FieldRef; 2] = [START, END].map(|name| Arc::new(Field::new(name, rowtime_type(), false)));
    let columns = input.row_type.fields().iter().cloned().chain(bounds.iter().cloned());
    input.row_type = Arc::new(RowType::new(columns.collect::<Vec<_>>()));
    input.window = Some(windowed);
    let qualifier = Some(TableReference::bare(input.alias.clone()));
    let own = node.schema().iter().map(|(q, f)| (q.cloned(), f.clone()));
    let schema = schema_of(own.chain(bounds.into_iter().map(|field| (qualifier.clone(), field))).collect());
    let node = Node::Window { input: Box::new(node), windows, schema: Arc::new(schema) };
    Some(Factor { input, node, unique: None, place, as_of: None })
}

// --------------------------------------------------------------------------------------------------------------- groups

/// Groups of a window.
pub(crate) struct Groups {
    pub(crate) window: WindowGroup,
    /// The bound, by its position in the group, that the key does without since the other one tells it.
    pub(crate) told: Option<usize>,
}

/// The window that rows are grouped by, if GROUP BY names one of its bounds; the other one is added. `listed`: the names
/// of the list's columns and what they are. Error: it was refused.
pub(crate) fn group(
    group: &mut Vec<Expr>,
    listed: &[(&str, &Expr)],
    place: &Place,
    scope: &mut Scope<'_>,
) -> Result<Option<Groups>, ()> {
    let bound = |input: &Input, name: &str| Expr::Column(Column::new(Some(input.alias.clone()), name));
    let found = scope.inputs.iter().filter(|input| input.window.is_some()).find_map(|input| {
        let (start, end) = (bound(input, START), bound(input, END));
        (group.contains(&start) || group.contains(&end)).then(|| (input.clone(), start, end))
    });
    let Some((input, start, end)) = found else { return without_window(place, scope) };
    let Some(windowed) = input.window.clone() else { return Ok(None) };
    if input.optional {
        let message = format!("`{}` may have no row here, and a group without a window never closes", input.alias);
        refuse::<()>(scope, codes::GROUPING, place.clone(), message, "put the window on the side that the join keeps".into());
        return Err(());
    }
    let mut once: Vec<Expr> = Vec::with_capacity(group.len() + 1);
    for expr in std::mem::take(group).into_iter().chain([start.clone(), end.clone()]) {
        if !once.contains(&expr) {
            once.push(expr);
        }
    }
    *group = once;
    let at = |bound: &Expr| group.iter().position(|expr| expr == bound).unwrap_or(0);
    let (start_at, end_at) = (at(&start), at(&end));
    let emit = emission(&windowed, scope)?;
    let window = WindowGroup { start: start_at, end: end_at, grace_ms: windowed.grace_ms, emit };
    let told = told(&windowed, ((&start, start_at), (&end, end_at)), listed, scope);
    Ok(Some(Groups { window, told }))
}

/// GROUP BY over a window, but not by it.
fn without_window(place: &Place, scope: &mut Scope<'_>) -> Result<Option<Groups>, ()> {
    let Some(input) = scope.inputs.iter().find(|input| input.window.is_some()) else { return Ok(None) };
    let (alias, name) = (input.alias.clone(), input.window.as_ref().map_or("", |w| w.name));
    let message =
        format!("the groups are not those of the window {}: rows of all its windows would be put together", name.to_uppercase());
    let help = format!(
        "add {alias}.{START} to GROUP BY, or leave the window out; for a group over windows, read the rows with their windows in a sub-query"
    );
    refuse::<()>(scope, codes::GROUPING, place.clone(), message, help);
    Err(())
}

/// When the groups of a window are sent.
fn emission(windowed: &Windowed, scope: &mut Scope<'_>) -> Result<Emit, ()> {
    match &scope.emit {
        Some((Emit::Changes, place)) if scope.depth == 0 => {
            if windowed.name == "session" {
                let message = "a session is known when it has closed: its rows may be joined with others until then";
                let place = place.clone();
                refuse::<()>(scope, codes::UNSUPPORTED, place, message, "write EMIT FINAL, or leave it out".into());
                return Err(());
            }
            Ok(Emit::Changes)
        }
        _ => Ok(Emit::Final),
    }
}

/// Which bound the key does without. Each tells the other one, but for the start of cumulating windows. A product's key
/// says what is wanted; else it is what the list of columns has.
fn told(
    windowed: &Windowed,
    ((start, start_at), (end, end_at)): ((&Expr, usize), (&Expr, usize)),
    listed: &[(&str, &Expr)],
    scope: &Scope<'_>,
) -> Option<usize> {
    let has = |bound: &Expr, names: &dyn Fn(&str) -> bool| listed.iter().any(|(name, expr)| *expr == bound && names(name));
    let of_key = |name: &str| scope.depth == 0 && scope.key.iter().any(|column| column == name);
    let by_start = windowed.name != "cumulate";
    match (has(start, &of_key), has(end, &of_key)) {
        (true, true) => None,
        (true, false) if !by_start => None,
        (true, false) => Some(end_at),
        (false, true) => Some(start_at),
        (false, false) if by_start && (has(start, &|_| true) || !has(end, &|_| true)) => Some(end_at),
        (false, false) => Some(start_at),
    }
}

/// A grace that no group uses is not silently ignored.
pub(crate) fn unused_grace(scope: &mut Scope<'_>) {
    let unused: Vec<Place> = scope.inputs.iter().filter_map(|input| input.window.as_ref()?.grace.clone()).collect();
    for place in unused {
        let message = "the grace says how long groups of the window stay open, and the rows are not grouped";
        refuse::<()>(scope, codes::GROUPING, place, message, "leave it out: each row comes at once".into());
    }
}

// ----------------------------------------------------------------------------------------------------------------- EMIT

/// Refuses an EMIT that says what the query does not do.
pub(crate) fn check_emit(root: &Node, scope: &mut Scope<'_>) {
    let Some((emit, place)) = scope.emit.clone() else { return };
    match (emit, outermost(root)) {
        (_, Some(true)) | (Emit::Changes, Some(false)) => {}
        (Emit::Changes, None) if holds_groups(root) => {
            let message = "EMIT CHANGES stands behind the query that groups the rows of a window, and here it is a sub-query: its groups are final";
            refuse::<()>(
                scope,
                codes::UNSUPPORTED,
                place,
                message,
                "leave it out, or make a product of its own of the sub-query".into(),
            );
        }
        (Emit::Changes, None) => {}
        (Emit::Final, None) if holds_groups(root) => {}
        (Emit::Final, Some(false)) => {
            let message = "EMIT FINAL waits until a group is closed, and a group without a window never is";
            refuse::<()>(scope, codes::UNSUPPORTED, place, message, format!("GROUP BY {START} of a window, or leave it out"));
        }
        (Emit::Final, None) => {
            let message = "EMIT FINAL waits until the groups of a window are closed, and there are none";
            refuse::<()>(scope, codes::UNSUPPORTED, place, message, "leave it out: each row comes once".into());
        }
    }
}

/// Whether the outermost SELECT's groups are those of a window; `None` if it has no groups.
fn outermost(node: &Node) -> Option<bool> {
    match node {
        Node::Aggregate { window, .. } => Some(window.is_some()),
        Node::Rename { .. } | Node::Scan { .. } => None,
        _ => node.inputs().into_iter().find_map(outermost),
    }
}

fn holds_groups(node: &Node) -> bool {
    matches!(node, Node::Aggregate { window: Some(_), .. }) || node.inputs().into_iter().any(holds_groups)
}
