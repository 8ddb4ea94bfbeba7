//! Compiling: a query's nodes become operators, each with the place its results go to.

use datafusion_common::DFSchema;
use datafusion_expr::Expr;

use super::dataflow::Rebuild;
use super::error::CompileError;
use super::expression::Expression;
use super::interval_join::IntervalJoin;
use super::key::KeyEncoder;
use super::lookup_join::LookupJoin;
use super::operator::Operator;
use super::project::Project;
use super::table_join::{Sides, TableJoin};
use crate::model::row::type_name;
use crate::sql::query::{Changes, JoinKind, Node, On, Query, Windows};

mod aggregate;
mod rows;
mod windows;

/// Nodes on top of one another at most; beyond it the tree could overflow the stack.
const DEPTH: usize = 200;

/// Where rows go: an operator and its port, or out of the dataflow.
pub(crate) type Target = Option<(usize, usize)>;

/// A compiled query.
pub(crate) struct Graph {
    /// An operator stands after those that feed it.
    pub(crate) slots: Vec<Slot>,
    /// By input: where its rows go, and how they are brought back after a restart.
    pub(crate) entries: Vec<Entry>,
    pub(crate) root: Feed,
    /// How far the results' event times may lie behind the watermark that they come with; `None`: they come at once.
    pub(crate) results_lag_ms: Option<i64>,
}

/// An operator in its place.
pub(crate) struct Slot {
    pub(crate) operator: Box<dyn Operator>,
    pub(crate) target: Target,
    pub(crate) feeds: Vec<Feed>,
    /// How far the watermark of what feeds it lies behind that of the inputs.
    pub(crate) lag_ms: i64,
}

/// Where rows come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feed {
    Input(usize),
    Operator(usize),
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) target: Target,
    pub(crate) rebuild: Rebuild,
    /// Whether rows go on with the records that they came from, since somebody above tells of rows by these.
    pub(crate) origins: bool,
    pub(crate) read: bool,
}

/// What stands above a node.
#[derive(Debug, Clone)]
struct Above {
    /// An operator to which the order of arrival matters, be it among the rows of two inputs or of one, and which takes
    /// back no row that it does not know.
    join: bool,
    depth: usize,
    /// Which of the node's rows must be made again after a restart.
    rebuild: Rebuild,
    /// Somebody above tells of rows by the records that they came from.
    origins: bool,
    /// An operator above reads the rows' event times, so that a row that comes again later is not the same.
    times: bool,
    /// For each column of the node's output whether anybody reads it.
    wanted: Vec<bool>,
}

impl Above {
    /// For an operator with one input, which reads the columns in `wanted`.
    fn single(&self, wanted: Vec<bool>) -> Self {
        Above { depth: self.depth + 1, wanted, ..self.clone() }
    }

    /// For one of the inputs of a join.
    fn joined(&self, rebuild: Rebuild, wanted: Vec<bool>) -> Self {
        Above { join: true, depth: self.depth + 1, rebuild, origins: self.origins, times: true, wanted }
    }
}

/// The columns that an input's reader wants: those read by expressions over it, its key's (a delete has no others), and
/// those at `also`.
fn wanted<'a>(
    input: &Node,
    also: impl Iterator<Item = usize>,
    expressions: impl Iterator<Item = &'a Expr>,
) -> Result<Vec<bool>, CompileError> {
    let mut wanted = vec![false; input.schema().fields().len()];
    let mut read: Vec<usize> = also.collect();
    if let Changes::Upsert(key) = input.changes() {
        read.extend(key);
    }
    for expression in expressions {
        read.extend(Expression::compile(expression, input.schema())?.columns());
    }
    for column in read {
        if let Some(wanted) = wanted.get_mut(column) {
            *wanted = true;
        }
    }
    Ok(wanted)
}

/// The same for both inputs of a join: what is read of its output, and by its own condition.
fn wanted_of_join(
    inputs: (&Node, &Node),
    above: &Above,
    on: &[On],
    residual: Option<&Expr>,
    schema: &DFSchema,
) -> Result<(Vec<bool>, Vec<bool>), CompileError> {
    let width = inputs.0.schema().fields().len();
    let mut read: Vec<usize> = above.wanted.iter().enumerate().filter(|(_, wanted)| **wanted).map(|(column, _)| column).collect();
    if let Some(residual) = residual {
        read.extend(Expression::compile(residual, schema)?.columns());
    }
    let left = wanted(inputs.0, read.iter().copied(), on.iter().map(|on| &on.left))?;
    let right = wanted(inputs.1, read.iter().filter_map(|c| c.checked_sub(width)), on.iter().map(|on| &on.right))?;
    Ok((left, right))
}

impl Graph {
    pub(crate) fn compile(query: &Query) -> Result<Self, CompileError> {
        let unread = Entry { target: None, rebuild: Rebuild::Nothing, origins: false, read: false };
        let entries = vec![unread; query.inputs.len()];
        let results_lag_ms = is_held(&query.root).then(|| lag_ms(&query.root));
        let mut graph = Graph { slots: Vec::new(), entries, root: Feed::Input(0), results_lag_ms };
        if query.root.changes() == Changes::Retract {
            return Err(CompileError(
                "the result takes back whole rows, and a topic can only take back what it knows by a key; give the product a \
                 key, or group the rows"
                    .into(),
            ));
        }
        let wanted = vec![true; query.root.schema().fields().len()];
        // A result that fits no contract is told by its record too.
        let above = Above { join: false, depth: 0, rebuild: Rebuild::Nothing, origins: true, times: false, wanted };
        graph.root = graph.node(&query.root, &above)?;
        Ok(graph)
    }

    fn node(&mut self, node: &Node, above: &Above) -> Result<Feed, CompileError> {
        if above.depth > DEPTH {
            return Err(CompileError(format!("more than {DEPTH} operators stand on top of one another")));
        }
        match node {
            Node::Scan { input, .. } => self.scan(*input, above),
            Node::Filter { .. } => self.filter(node, above),
            Node::Project { input, columns, schema, changes } => {
                let feed = self.node(input, &above.single(wanted(input, std::iter::empty(), columns.iter())?))?;
                Ok(self.place(Project::compile(columns, input.schema(), schema, changes)?, vec![feed], lag_ms(input)))
            }
            Node::LookupJoin { .. } => self.lookup_join(node, above),
            Node::IntervalJoin { .. } => self.interval_join(node, above),
            Node::TableJoin { .. } => self.table_join(node, above),
            Node::Aggregate { window: None, .. } => self.aggregate(node, above),
            Node::Rename { .. } => self.rename(node, above),
            Node::Retract { .. } => self.retract(node, above),
            Node::Union { .. } => self.union(node, above),
            Node::Distinct { .. } => self.distinct(node, above),
            Node::Rekey { .. } => self.rekey(node, above),
            Node::Window { .. } => self.window(node, above),
            Node::Aggregate { window: Some(window), .. } => self.window_aggregate(node, *window, above),
            Node::Unnest { .. } => self.unnest(node, above),
            Node::TopN { .. } => self.top_n(node, above),
        }
    }

    fn scan(&mut self, input: usize, above: &Above) -> Result<Feed, CompileError> {
        match self.entries.get_mut(input) {
            Some(entry) if !entry.read => {
                *entry = Entry { target: None, rebuild: above.rebuild, origins: above.origins, read: true };
                Ok(Feed::Input(input))
            }
            Some(_) => Err(CompileError(format!("input {input} is scanned twice"))),
            None => Err(CompileError(format!("there is no input {input}"))),
        }
    }

    fn lookup_join(&mut self, node: &Node, above: &Above) -> Result<Feed, CompileError> {
        let Node::LookupJoin { stream, table, on, residual, kind, as_of, schema } = node else {
            return Err(not_a("lookup join"));
        };
        require_append(stream, "the stream of a join with a table")?;
        windows::require_timely(stream)?;
        if let Some(what) = without_versions(table) {
            return Err(CompileError(format!(
                "a stream can't be joined with {what} in the same query, since its older results are not kept; \
                 make {what} a product of its own"
            )));
        }
        require_whole_key(table, on.iter().map(|on| &on.right), "the table")?;
        let (left, right) = wanted_of_join((stream, table), above, on, residual.as_ref(), schema)?;
        let left = self.node(stream, &above.joined(above.rebuild, left))?;
        let right = self.node(table, &above.joined(Rebuild::Whole, right))?;
        let keys = keys(on, stream.schema(), table.schema())?;
        let keys = (KeyEncoder::for_lookup(keys.0)?, KeyEncoder::for_lookup(keys.1)?);
        let join = LookupJoin::compile(keys, table.schema(), residual.as_ref(), (*kind, *as_of), (schema, &above.wanted))?;
        Ok(self.place(join, vec![left, right], lag_ms(stream).max(lag_ms(table))))
    }

    fn interval_join(&mut self, node: &Node, above: &Above) -> Result<Feed, CompileError> {
        let Node::IntervalJoin { left, right, on, lower_ms, upper_ms, residual, kind, schema } = node else {
            return Err(not_a("interval join"));
        };
        require_append(left, "a join of streams")?;
        require_append(right, "a join of streams")?;
        windows::require_timely(left)?;
        windows::require_timely(right)?;
        let bounds = (*lower_ms, *upper_ms);
        let lag = lag_ms(left).max(lag_ms(right));
        let again = |results_ms: i64| {
            let (left, right) = IntervalJoin::windows_ms(bounds, *kind, results_ms.max(lag));
            (Rebuild::Window { ms: left }, Rebuild::Window { ms: right })
        };
        let (left_rebuild, right_rebuild) = match above.rebuild {
            Rebuild::Whole => (Rebuild::Whole, Rebuild::Whole),
            Rebuild::Nothing => again(0),
            Rebuild::Window { ms } => again(ms),
        };
        let (left_wanted, right_wanted) = wanted_of_join((left, right), above, on, residual.as_ref(), schema)?;
        // Rows that come too late are told by the records that they came from.
        let above_left = Above { origins: true, ..above.joined(left_rebuild, left_wanted) };
        let above_right = Above { origins: true, ..above.joined(right_rebuild, right_wanted) };
        let left_feed = self.node(left, &above_left)?;
        let right_feed = self.node(right, &above_right)?;
        let keys = keys(on, left.schema(), right.schema())?;
        let keys = (KeyEncoder::for_lookup(keys.0)?, KeyEncoder::for_lookup(keys.1)?);
        let inputs = (left.schema().as_ref(), right.schema().as_ref());
        let join = IntervalJoin::compile(keys, inputs, bounds, residual.as_ref(), *kind, (schema, &above.wanted), above.join)?;
        Ok(self.place(join, vec![left_feed, right_feed], lag))
    }

    fn table_join(&mut self, node: &Node, above: &Above) -> Result<Feed, CompileError> {
        let Node::TableJoin { left, right, on, residual, kind, schema, changes } = node else { return Err(not_a("table join")) };
        let (left_wanted, right_wanted) = wanted_of_join((left, right), above, on, residual.as_ref(), schema)?;
        let below = |wanted: &Vec<bool>| Above { times: above.times, ..above.joined(Rebuild::Whole, wanted.clone()) };
        let left_feed = self.node(left, &below(&left_wanted))?;
        let right_feed = self.node(right, &below(&right_wanted))?;
        let keys = keys(on, left.schema(), right.schema())?;
        let sides = Sides {
            on: [KeyEncoder::for_rows(keys.0)?, KeyEncoder::for_rows(keys.1)?],
            whole: [is_whole_key(left, on.iter().map(|on| &on.left))?, is_whole_key(right, on.iter().map(|on| &on.right))?],
            schemas: [left.schema(), right.schema()],
            changes: [left.changes(), right.changes()],
            read: [left_wanted, right_wanted],
        };
        let join = TableJoin::compile(sides, residual.as_ref(), *kind, (schema, &above.wanted), (changes, above.times))?;
        Ok(self.place(join, vec![left_feed, right_feed], lag_ms(left).max(lag_ms(right))))
    }

    /// Puts an operator behind those that feed it.
    fn place(&mut self, operator: impl Operator + 'static, feeds: Vec<Feed>, lag_ms: i64) -> Feed {
        let here = self.slots.len();
        for (port, feed) in feeds.iter().enumerate() {
            let target = match *feed {
                Feed::Input(input) => self.entries.get_mut(input).map(|entry| &mut entry.target),
                Feed::Operator(slot) => self.slots.get_mut(slot).map(|slot| &mut slot.target),
            };
            if let Some(target) = target {
                *target = Some((here, port));
            }
        }
        self.slots.push(Slot { operator: Box::new(operator), target: None, feeds, lag_ms });
        Feed::Operator(here)
    }
}

fn not_a(what: &str) -> CompileError {
    CompileError(format!("the node is not a {what}"))
}

/// The expressions of both sides of a join's equalities.
fn keys(on: &[On], left: &DFSchema, right: &DFSchema) -> Result<(Vec<Expression>, Vec<Expression>), CompileError> {
    let mut keys = (Vec::with_capacity(on.len()), Vec::with_capacity(on.len()));
    for On { left: a, right: b } in on {
        let (a, b) = (Expression::compile(a, left)?, Expression::compile(b, right)?);
        if a.data_type() != b.data_type() {
            let (x, y) = (type_name(a.data_type()), type_name(b.data_type()));
            return Err(CompileError(format!("{} is {x} but {} is {y}, so they can't be joined on", a.text(), b.text())));
        }
        keys.0.push(a);
        keys.1.push(b);
    }
    Ok(keys)
}

fn require_append(node: &Node, whose: &str) -> Result<(), CompileError> {
    match node.changes() {
        Changes::Append => Ok(()),
        Changes::Upsert(_) => Err(replaces(whose)),
        Changes::Retract => Err(CompileError(format!("{whose} needs rows that are only added, but these are taken back"))),
    }
}

fn replaces(whose: &str) -> CompileError {
    CompileError(format!("{whose} needs rows that are only added, but these replace one another by key"))
}

/// A stream is joined with a table on the table's whole key only, since each of its rows then has at most one partner.
fn require_whole_key<'a>(table: &Node, on: impl Iterator<Item = &'a Expr>, which: &str) -> Result<(), CompileError> {
    let Changes::Upsert(key) = table.changes() else {
        return Err(CompileError(format!("{which} of the join is not a table")));
    };
    if is_whole_key(table, on)? {
        return Ok(());
    }
    let names: Vec<String> = key.iter().filter_map(|at| table.schema().columns().get(*at).map(ToString::to_string)).collect();
    Err(CompileError(format!("{which} of the join must be joined on its whole key ({}), each part once", names.join(", "))))
}

/// Whether expressions over a table are the columns of its key, each once.
fn is_whole_key<'a>(table: &Node, on: impl Iterator<Item = &'a Expr>) -> Result<bool, CompileError> {
    let Changes::Upsert(key) = table.changes() else { return Ok(false) };
    let columns = on.map(|expr| Ok(Expression::compile(expr, table.schema())?.as_lossless_column(table.schema())));
    let mut columns = columns.collect::<Result<Vec<Option<usize>>, CompileError>>()?;
    let mut key: Vec<Option<usize>> = key.iter().copied().map(Some).collect();
    columns.sort_unstable();
    key.sort_unstable();
    Ok(columns == key)
}

/// How far the watermark of a node's results lies behind that of the inputs: rows without a partner are sent late.
pub(super) fn lag_ms(node: &Node) -> i64 {
    let below = node.inputs().into_iter().map(lag_ms).max().unwrap_or(0);
    let own = match node {
        Node::IntervalJoin { kind, lower_ms, upper_ms, .. } => IntervalJoin::lag_ms((*lower_ms, *upper_ms), *kind),
        Node::Aggregate { window: Some(window), .. } => window.grace_ms,
        Node::Window { windows: Windows::Session { grace_ms, .. }, .. } => *grace_ms,
        _ => 0,
    };
    below.saturating_add(own)
}

/// Whether some of the node's rows are held back until the watermark has passed them.
fn is_held(node: &Node) -> bool {
    let own = match node {
        Node::IntervalJoin { kind, .. } => *kind != JoinKind::Inner,
        Node::Aggregate { window, .. } => window.is_some(),
        Node::Window { windows, .. } => matches!(windows, Windows::Session { .. }),
        _ => false,
    };
    own || node.inputs().into_iter().any(is_held)
}

/// Whether the node's rows come from an operator that keeps them all in memory.
fn keeps_rows(node: &Node) -> bool {
    match node {
        Node::Filter { input, .. } | Node::Project { input, .. } | Node::Rename { input, .. } => keeps_rows(input),
        // The groups of windows are forgotten.
        Node::Aggregate { window: Some(_), .. } => false,
        Node::Aggregate { .. } | Node::TableJoin { .. } | Node::Rekey { .. } | Node::Distinct { .. } | Node::TopN { .. } => true,
        _ => false,
    }
}

/// What comes back from the changelog as it is now, without the versions before.
fn without_versions(node: &Node) -> Option<&'static str> {
    match node {
        Node::Aggregate { .. } => Some("an aggregate"),
        Node::Rekey { .. } => Some("a re-keyed table"),
        Node::TopN { .. } => Some("the first rows of partitions"),
        _ => node.inputs().into_iter().find_map(without_versions),
    }
}
