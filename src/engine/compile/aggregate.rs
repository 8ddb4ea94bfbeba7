//! Compiling aggregates.

use super::{Above, Feed, Graph, lag_ms, replaces, wanted};
use crate::engine::aggregate::Aggregate;
use crate::engine::dataflow::Rebuild;
use crate::engine::error::CompileError;
use crate::sql::query::{self, Changes, Node};

impl Graph {
    pub(super) fn aggregate(&mut self, node: &Node, above: &Above) -> Result<Feed, CompileError> {
        let Node::Aggregate { input, group, aggregates, schema, changes, .. } = node else {
            return Err(super::not_a("aggregate"));
        };
        let retracts = match input.changes() {
            Changes::Append => false,
            Changes::Retract => true,
            Changes::Upsert(_) => return Err(replaces("an aggregate")),
        };
        let aggregate = Aggregate::compile(group, aggregates, (input.schema(), retracts), schema, changes)?;
        let read = group.iter().chain(aggregates.iter().flat_map(query::Aggregate::expressions));
        let all = if aggregate.reads_whole_rows() { input.schema().fields().len() } else { 0 };
        let above = above.single(wanted(input, 0..all, read)?);
        // Its own state comes from the changelog, so nothing below must be made again.
        let feed = self.node(input, &Above { rebuild: Rebuild::Nothing, times: true, ..above })?;
        Ok(self.place(aggregate, vec![feed], lag_ms(input)))
    }
}
