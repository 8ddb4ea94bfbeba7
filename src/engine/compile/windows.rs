//! Compiling windows of event time, and the groups that they close.

use super::{Above, Feed, Graph, lag_ms, require_append, wanted};
use crate::engine::dataflow::Rebuild;
use crate::engine::error::CompileError;
use crate::engine::session::Session;
use crate::engine::window::Window;
use crate::engine::window_aggregate::WindowAggregate;
use crate::sql::query::{Node, WindowGroup, Windows};

impl Graph {
    pub(super) fn window(&mut self, node: &Node, above: &Above) -> Result<Feed, CompileError> {
        let Node::Window { input, windows, schema } = node else { return Err(super::not_a("window")) };
        require_append(input, "a window")?;
        require_timely(input)?;
        let read = wanted(input, above.read(input.schema().fields().len()), node.expressions().into_iter())?;
        let output = (schema.as_ref(), above.wanted.as_slice());
        let Windows::Session { gap_ms, grace_ms, partition } = windows else {
            let feed = self.node(input, &Above { times: true, ..above.single(read) })?;
            return Ok(self.place(Window::compile(windows, output)?, vec![feed], lag_ms(input)));
        };
        if above.rebuild != Rebuild::Nothing {
            return Err(CompileError(
                "rows of sessions come long after their event times, so they can't be joined; aggregate them first".into(),
            ));
        }
        let feed = self.node(input, &Above { origins: true, times: true, ..above.single(read) })?;
        let session = Session::compile((*gap_ms, *grace_ms), partition, input.schema(), output)?;
        Ok(self.place(session, vec![feed], lag_ms(input)))
    }

    pub(super) fn window_aggregate(&mut self, node: &Node, window: WindowGroup, above: &Above) -> Result<Feed, CompileError> {
        let Node::Aggregate { input, group, aggregates, schema, changes, .. } = node else {
            return Err(super::not_a("aggregate"));
        };
        require_append(input, "an aggregate of windows")?;
        let read = wanted(input, std::iter::empty(), node.expressions().into_iter())?;
        let below = Above { rebuild: Rebuild::Nothing, origins: true, times: true, ..above.single(read) };
        let feed = self.node(input, &below)?;
        let groups = (group.as_slice(), window);
        let aggregate = WindowAggregate::compile(groups, aggregates, input.schema(), schema, changes, above.rebuild)?;
        Ok(self.place(aggregate, vec![feed], lag_ms(input)))
    }
}

/// Rows of sessions come when the session has closed, with their own event times: what goes by the watermark would find
/// them late.
pub(super) fn require_timely(node: &Node) -> Result<(), CompileError> {
    match node {
        Node::Window { windows: Windows::Session { .. }, .. } => {
            Err(CompileError("the rows of a session come long after their event times; aggregate them first".into()))
        }
        Node::Aggregate { .. } => Ok(()),
        _ => node.inputs().into_iter().try_for_each(require_timely),
    }
}
