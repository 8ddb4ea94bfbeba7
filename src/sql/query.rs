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
    /// A stream's row with the table's row as of the stream row's event time. Output: the stream's columns, then the
    /// table's. Its event time is the stream row's.
    LookupJoin { stream: Box<Node>, table: Box<Node>, on: Vec<On>, residual: Option<Expr>, kind: JoinKind, schema: DFSchemaRef },
    /// Two append inputs, `lower_ms <= right.rowtime - left.rowtime <= upper_ms`. Output: the left's columns, then the
    /// right's. Its event time is the later of the two.
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
    /// Two upsert inputs, joined on their whole keys (in any order of columns). Output: the left's columns, then the
    /// right's; upsert by the left's key. Its event time is the later of the two rows'.
    TableJoin {
        left: Box<Node>,
        right: Box<Node>,
        on: Vec<On>,
        residual: Option<Expr>,
        kind: JoinKind,
        schema: DFSchemaRef,
        changes: Changes,
    },
    /// One row for each group. Output: the group's columns, then the aggregates; upsert by the group's columns.
    Aggregate { input: Box<Node>, group: Vec<Expr>, aggregates: Vec<Aggregate>, schema: DFSchemaRef, changes: Changes },
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
}

/// One aggregate of a query.
#[derive(Debug, Clone)]
pub struct Aggregate {
    pub function: AggregateFunction,
    /// `None` for `count(*)`.
    pub argument: Option<Expr>,
}

/// What an aggregate computes.
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
}

impl Node {
    /// The node's output columns.
    pub fn schema(&self) -> &DFSchemaRef {
        match self {
            Node::Filter { input, .. } => input.schema(),
            Node::Scan { schema, .. }
            | Node::Project { schema, .. }
            | Node::LookupJoin { schema, .. }
            | Node::IntervalJoin { schema, .. }
            | Node::TableJoin { schema, .. }
            | Node::Aggregate { schema, .. } => schema,
        }
    }

    /// What the changes on the node's output mean.
    pub fn changes(&self) -> &Changes {
        match self {
            Node::Filter { input, .. } => input.changes(),
            Node::LookupJoin { .. } | Node::IntervalJoin { .. } => &Changes::Append,
            Node::Scan { changes, .. }
            | Node::Project { changes, .. }
            | Node::TableJoin { changes, .. }
            | Node::Aggregate { changes, .. } => changes,
        }
    }
}
