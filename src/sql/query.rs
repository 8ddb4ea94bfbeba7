//! The typed query: what a derivation's SQL means, with every name resolved and every type known.
//!
//! This is the seam between `sql`, which makes it, and `engine`, which compiles it into a dataflow. Expressions are
//! DataFusion's, coerced, and refer to the columns of their node's input by qualifier and name.

use std::sync::Arc;

use datafusion_common::DFSchemaRef;
use datafusion_expr::Expr;

use crate::model::diagnostic::Place;
use crate::model::product::Shape;
use crate::model::row::RowType;

/// A query over products.
#[derive(Debug, Clone)]
pub struct Query {
    /// The products it reads, each occurrence in FROM once, in that order.
    pub inputs: Vec<Input>,
    pub root: Node,
    /// The result's row type: the root's columns by their bare names, which are unique.
    pub row_type: Arc<RowType>,
    /// Columns of the result that form its record key; empty for a stream without a key.
    pub key: Vec<usize>,
    /// Where it reads which column, in the order of the text.
    pub uses: Vec<ColumnUse>,
}

/// One place in a query that reads a product's column; a `*` reads many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnUse {
    pub product: String,
    pub column: String,
    pub place: Place,
}

/// One occurrence of a product in FROM.
#[derive(Debug, Clone)]
pub struct Input {
    /// The product's name, as in its manifest.
    pub product: String,
    /// The alias, or the relation's name.
    pub alias: String,
    pub shape: Shape,
    /// The columns that the query reads, in the contract's order, `rowtime` left out; decoders decode only these. A
    /// table's key columns are always among them, since a delete must find its row.
    pub row_type: Arc<RowType>,
    /// Positions in `row_type` of the record key's columns; empty for a stream without a key.
    pub key: Vec<usize>,
    /// The column of `row_type` that is the event time; `None`: the record's own timestamp.
    pub time_column: Option<usize>,
    /// How far a partition's records may be out of order, in milliseconds.
    pub disorder_ms: i64,
}

/// What the changes on an edge of the dataflow mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// Inserts only.
    Append,
    /// The latest row of a key (positions of columns) replaces the one before; a delete carries the key's columns only.
    Upsert(Vec<usize>),
    /// Inserts and deletes of whole rows; an update is both, the delete first.
    Retract,
}

/// One operator of a query. `schema` is its output's.
#[derive(Debug, Clone)]
pub enum Node {
    /// Reads an input. The columns are the input's `row_type`, and then `rowtime`, all qualified by the alias.
    Scan { input: usize, schema: DFSchemaRef, changes: Changes },
    /// Rows for which the predicate is true. Of an upsert input it turns a row that fails into a delete.
    Filter { input: Box<Node>, predicate: Expr },
    /// One column for each expression. Key columns of an upsert input stay among them.
    Project { input: Box<Node>, columns: Vec<Expr>, schema: DFSchemaRef, changes: Changes },
    /// A sub-query's rows as FROM knows them: the input's columns, qualified by the alias, and then `rowtime`, the rows'
    /// event time. The changes are the input's.
    Rename { input: Box<Node>, schema: DFSchemaRef },
    /// The rows of an upsert input as inserts and deletes of whole rows: an update is both, the delete first. The columns
    /// are the input's.
    Retract { input: Box<Node> },
    /// The rows of a retracting input under another key (positions of columns): of the rows with equal keys the last to
    /// come counts, and when it goes, the one before it comes back. Output: upsert by `key`. The columns are the input's.
    Rekey { input: Box<Node>, key: Vec<usize> },
    /// The input's rows with the windows of event time that they belong to, one row for each. Output: the input's columns,
    /// then `window_start` and `window_end`. The input is append, and so is the output.
    Window { input: Box<Node>, windows: Windows, schema: DFSchemaRef },
    /// One row for each element of an array, or for each entry of a map. Output: the input's columns, then the element (or
    /// key and value), then with `ordinality` its position from 1. The input is append or retract, and so is the output.
    Unnest { input: Box<Node>, list: Expr, outer: bool, ordinality: bool, schema: DFSchemaRef },
    /// The rows of all inputs, whose columns have the same types in the same order. Append if all are, else all are retract.
    Union { inputs: Vec<Node>, schema: DFSchemaRef, changes: Changes },
    /// Each row once. Of an append input: the first of equal rows, append. Of a retracting one: upsert by all columns.
    Distinct { input: Box<Node>, changes: Changes },
    /// The first `limit` rows of each partition by `order`, then by arrival. Output: the input's columns, and `row_number`
    /// (from 1, 64 bit) after them if `numbered`. The input is append or retract.
    ///
    /// Append where the input is and a row that is among the first stays there (`order` by event time ascending, limit 1);
    /// upsert by the partition's columns where `limit` is 1; upsert by partition and `row_number` where `numbered`; else retract.
    TopN {
        input: Box<Node>,
        partition: Vec<Expr>,
        order: Vec<Order>,
        limit: u64,
        numbered: bool,
        schema: DFSchemaRef,
        changes: Changes,
    },
    /// A stream's row with a table's row, which is joined on its whole key. Output: the stream's columns, then the table's. Its event time is
    /// the stream row's. Inner or left.
    LookupJoin {
        stream: Box<Node>,
        table: Box<Node>,
        on: Vec<On>,
        residual: Option<Expr>,
        kind: JoinKind,
        as_of: AsOf,
        schema: DFSchemaRef,
    },
    /// Two append inputs, `lower_ms <= right.rowtime - left.rowtime <= upper_ms`. Output: the left's columns, then the
    /// right's. Its event time is the later of the two. Of any kind; a row without a partner comes when none can come any more.
    IntervalJoin {
        left: Box<Node>,
        right: Box<Node>,
        on: Vec<On>,
        lower_ms: i64,
        upper_ms: i64,
        residual: Option<Expr>,
        kind: JoinKind,
        schema: DFSchemaRef,
    },
    /// Two tables: upsert or retract inputs. Output: the left's columns, then the right's. Its event time is the later of the two rows'.
    ///
    /// Upsert by the left's key where the left is upsert, the right is upsert and joined on its whole key, and the kind is inner or left (so that a
    /// left row has one result at most; the left may be joined on any columns: a foreign key). Else retract, of any kind.
    TableJoin {
        left: Box<Node>,
        right: Box<Node>,
        on: Vec<On>,
        residual: Option<Expr>,
        kind: JoinKind,
        schema: DFSchemaRef,
        changes: Changes,
    },
    /// One row for each group. Output: the group's columns, then the aggregates. The input is append or retract.
    ///
    /// Upsert by the group's columns; of a window's bounds one may be left out of the key where the other one tells it. With `window` and
    /// `Emit::Final` append: each group once, when its window closes. The event time of a window's row is its end less a millisecond, else
    /// the greatest of its rows'.
    Aggregate {
        input: Box<Node>,
        group: Vec<Expr>,
        aggregates: Vec<Aggregate>,
        window: Option<WindowGroup>,
        schema: DFSchemaRef,
        changes: Changes,
    },
}

/// Windows of event time, all in milliseconds. They are aligned to 1970 plus `offset_ms`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Windows {
    Tumble {
        size_ms: i64,
        offset_ms: i64,
    },
    /// Windows of `size_ms`, one begins every `step_ms`.
    Hop {
        size_ms: i64,
        step_ms: i64,
        offset_ms: i64,
    },
    /// Windows that begin every `size_ms` and end after `step_ms`, twice `step_ms`, and so on up to `size_ms`.
    Cumulate {
        size_ms: i64,
        step_ms: i64,
        offset_ms: i64,
    },
    /// Rows of one partition of which no neighbours are `gap_ms` or more apart. They come when the session has closed, `grace_ms` after its end,
    /// in the order of their event times; `window_end` is the last row's time plus `gap_ms`.
    Session {
        gap_ms: i64,
        grace_ms: i64,
        partition: Vec<Expr>,
    },
}

/// How groups of a window are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowGroup {
    /// Positions in `group` of `window_start` and `window_end`.
    pub start: usize,
    pub end: usize,
    /// A group closes when the watermark reaches its window's end plus this. Later rows are late.
    pub grace_ms: i64,
    pub emit: Emit,
}

/// When the groups of windows are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emit {
    /// Once, when the window closes.
    Final,
    /// Whenever they change.
    Changes,
}

/// Which version of a table's row a stream's row meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// That of the stream row's event time.
    EventTime,
    /// The one that has arrived last.
    Arrival,
}

/// One expression to sort by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub expr: Expr,
    pub descending: bool,
    pub nulls_first: bool,
}

/// One equality of a join: an expression of the left (or stream) input and one of the right (or table) input, of the
/// same type.
#[derive(Debug, Clone)]
pub struct On {
    pub left: Expr,
    pub right: Expr,
}

/// Which rows without a partner a join keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    Inner,
    /// The left (or stream) input's rows.
    Left,
    Right,
    Full,
}

/// One aggregate of a query.
#[derive(Debug, Clone)]
pub struct Aggregate {
    pub function: AggregateFunction,
    /// Empty for `count(*)`; behind the first they are literals.
    pub arguments: Vec<Expr>,
    /// Equal arguments count once.
    pub distinct: bool,
    /// Only rows for which it is true count.
    pub filter: Option<Expr>,
    /// The order of the elements of `array_agg` and `string_agg`; without it, that of event times, then of arrival.
    pub order: Vec<Order>,
}

/// What an aggregate computes. NULL arguments do not count, but for `Latest`, `Earliest` and `ArrayAgg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateFunction {
    /// The argument of the row with the greatest event time; of equal ones, the last to arrive.
    Latest,
    /// The argument of the row with the smallest event time; of equal ones, the first to arrive.
    Earliest,
    Count,
    Sum,
    Min,
    Max,
    Avg,
    StddevPop,
    StddevSamp,
    VarPop,
    VarSamp,
    ArrayAgg,
    /// `string_agg(x, separator)`
    StringAgg,
    BoolAnd,
    BoolOr,
    /// HyperLogLog's estimate.
    ApproxDistinct,
    /// `approx_percentile(x, p)`, 0 <= p <= 1.
    ApproxPercentile,
    /// `histogram(x, lo, hi, bins)`: an array of `bins + 2` counts: below `lo`, the bins of equal width, at or above `hi`.
    Histogram,
    /// `topk(x, k)`: an array of the `k` greatest, greatest first.
    TopK,
}

impl Node {
    /// The node's output columns.
    pub fn schema(&self) -> &DFSchemaRef {
        match self {
            Node::Filter { input, .. } | Node::Retract { input } | Node::Rekey { input, .. } | Node::Distinct { input, .. } => {
                input.schema()
            }
            Node::Scan { schema, .. }
            | Node::Project { schema, .. }
            | Node::Rename { schema, .. }
            | Node::Window { schema, .. }
            | Node::Unnest { schema, .. }
            | Node::Union { schema, .. }
            | Node::TopN { schema, .. }
            | Node::LookupJoin { schema, .. }
            | Node::IntervalJoin { schema, .. }
            | Node::TableJoin { schema, .. }
            | Node::Aggregate { schema, .. } => schema,
        }
    }

    /// What the changes on the node's output mean.
    pub fn changes(&self) -> Changes {
        match self {
            Node::Filter { input, .. } | Node::Rename { input, .. } | Node::Unnest { input, .. } => input.changes(),
            Node::LookupJoin { .. } | Node::IntervalJoin { .. } | Node::Window { .. } => Changes::Append,
            Node::Retract { .. } => Changes::Retract,
            Node::Rekey { key, .. } => Changes::Upsert(key.clone()),
            Node::Scan { changes, .. }
            | Node::Project { changes, .. }
            | Node::Union { changes, .. }
            | Node::Distinct { changes, .. }
            | Node::TopN { changes, .. }
            | Node::TableJoin { changes, .. }
            | Node::Aggregate { changes, .. } => changes.clone(),
        }
    }

    /// What feeds it, left first.
    pub fn inputs(&self) -> Vec<&Node> {
        match self {
            Node::Scan { .. } => Vec::new(),
            Node::Filter { input, .. }
            | Node::Project { input, .. }
            | Node::Rename { input, .. }
            | Node::Retract { input }
            | Node::Rekey { input, .. }
            | Node::Window { input, .. }
            | Node::Unnest { input, .. }
            | Node::Distinct { input, .. }
            | Node::TopN { input, .. }
            | Node::Aggregate { input, .. } => vec![input],
            Node::Union { inputs, .. } => inputs.iter().collect(),
            Node::LookupJoin { stream: left, table: right, .. }
            | Node::IntervalJoin { left, right, .. }
            | Node::TableJoin { left, right, .. } => vec![left, right],
        }
    }

    /// The expressions over its inputs' rows.
    pub fn expressions(&self) -> Vec<&Expr> {
        match self {
            Node::Scan { .. }
            | Node::Rename { .. }
            | Node::Retract { .. }
            | Node::Rekey { .. }
            | Node::Union { .. }
            | Node::Distinct { .. } => Vec::new(),
            Node::Filter { predicate, .. } => vec![predicate],
            Node::Project { columns, .. } => columns.iter().collect(),
            Node::Window { windows, .. } => match windows {
                Windows::Session { partition, .. } => partition.iter().collect(),
                _ => Vec::new(),
            },
            Node::Unnest { list, .. } => vec![list],
            Node::TopN { partition, order, .. } => partition.iter().chain(order.iter().map(|o| &o.expr)).collect(),
            Node::LookupJoin { on, residual, .. }
            | Node::IntervalJoin { on, residual, .. }
            | Node::TableJoin { on, residual, .. } => on.iter().flat_map(|on| [&on.left, &on.right]).chain(residual).collect(),
            Node::Aggregate { group, aggregates, .. } => {
                group.iter().chain(aggregates.iter().flat_map(Aggregate::expressions)).collect()
            }
        }
    }
}

impl AggregateFunction {
    /// Its name in a query.
    pub fn name(self) -> &'static str {
        match self {
            AggregateFunction::Latest => "latest",
            AggregateFunction::Earliest => "earliest",
            AggregateFunction::Count => "count",
            AggregateFunction::Sum => "sum",
            AggregateFunction::Min => "min",
            AggregateFunction::Max => "max",
            AggregateFunction::Avg => "avg",
            AggregateFunction::StddevPop => "stddev_pop",
            AggregateFunction::StddevSamp => "stddev_samp",
            AggregateFunction::VarPop => "var_pop",
            AggregateFunction::VarSamp => "var_samp",
            AggregateFunction::ArrayAgg => "array_agg",
            AggregateFunction::StringAgg => "string_agg",
            AggregateFunction::BoolAnd => "bool_and",
            AggregateFunction::BoolOr => "bool_or",
            AggregateFunction::ApproxDistinct => "approx_distinct",
            AggregateFunction::ApproxPercentile => "approx_percentile",
            AggregateFunction::Histogram => "histogram",
            AggregateFunction::TopK => "topk",
        }
    }
}

impl JoinKind {
    /// Its name in a query.
    pub fn name(self) -> &'static str {
        match self {
            JoinKind::Inner => "inner",
            JoinKind::Left => "left",
            JoinKind::Right => "right",
            JoinKind::Full => "full",
        }
    }
}

impl Aggregate {
    /// A plain aggregate of these arguments.
    pub fn plain(function: AggregateFunction, arguments: Vec<Expr>) -> Self {
        Aggregate { function, arguments, distinct: false, filter: None, order: Vec::new() }
    }

    /// All expressions that it evaluates.
    pub fn expressions(&self) -> impl Iterator<Item = &Expr> {
        self.arguments.iter().chain(&self.filter).chain(self.order.iter().map(|order| &order.expr))
    }
}
