//! The dataflow: a typed query compiled into operators that step over batches.
//!
//! ```text
//! Query -- compile --> Dataflow -- step(batches, watermark) --> batches
//! ```
//!
//! A query is a tree, and so is its dataflow: one operator per node, each in its own file behind [`operator::Operator`],
//! rows flowing from the scans to the root. A batch that is pushed goes all the way up before the next one starts, so the
//! order in which rows arrive is the order in which their results are made, whatever the batches' sizes.
//!
//! **Invariant:** nothing here knows a clock, randomness or the world: the same rows and watermarks give the same results.
//! **Invariant:** an operator's `push` either takes the whole batch or fails and changes nothing; that is what lets the
//! dataflow find a row that can't be computed by halving, and go on without it.

pub mod batch;
pub mod dataflow;
pub mod describe;
pub mod error;
pub mod explain;
pub mod operator;

mod accumulator;
mod aggregate;
mod arena;
mod arguments;
mod compile;
mod distinct;
mod exact;
mod expression;
mod filter;
mod first_row;
mod groups;
mod interval_join;
mod key;
mod late;
mod limited;
mod logical;
mod lookup_join;
mod multiset;
mod pairs;
mod project;
mod ranking;
mod rekey;
mod rename;
mod results;
mod retract;
mod saved;
mod sequence;
mod session;
mod sketch;
mod table_join;
mod top_n;
mod union;
mod unnest;
mod value;
mod whole_row;
mod window;
mod window_aggregate;

pub use batch::Batch;
pub use dataflow::{BadRow, Dataflow, Rebuild};
pub use describe::Description;
pub use error::{CompileError, RowError, StateError};
pub use explain::Explained;
pub use late::LateRow;
