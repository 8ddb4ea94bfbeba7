//! Compiling the operators on whole rows: renamed, taken back, in one, each once.

use super::{Above, Feed, Graph, keeps_rows, lag_ms, wanted};
use crate::engine::dataflow::Rebuild;
use crate::engine::distinct::Distinct;
use crate::engine::error::CompileError;
use crate::engine::filter::Filter;
use crate::engine::rename::Rename;
use crate::engine::retract::Retract;
use crate::engine::union::Union;
use crate::model::row::type_name;
use crate::sql::query::{Changes, Node};

impl Above {
    /// Positions of the columns that are wanted, of the first `width`.
    pub(super) fn read(&self, width: usize) -> impl Iterator<Item = usize> {
        self.wanted.iter().take(width).enumerate().filter(|(_, wanted)| **wanted).map(|(column, _)| column)
    }

    /// For an input of an operator to which the order of arrival matters.
    fn ordered(&self, rebuild: Rebuild, wanted: Vec<bool>) -> Self {
        Above { join: true, rebuild, ..self.single(wanted) }
    }
}

impl Graph {
    pub(super) fn filter(&mut self, node: &Node, above: &Above) -> Result<Feed, CompileError> {
        let Node::Filter { input, predicate } = node else { return Err(super::not_a("filter")) };
        let read = above.read(above.wanted.len());
        let feed = self.node(input, &above.single(wanted(input, read, std::iter::once(predicate))?))?;
        let remember = !above.join && keeps_rows(input);
        let filter = Filter::compile(predicate, input.schema(), &input.changes(), remember)?;
        Ok(self.place(filter, vec![feed], lag_ms(input)))
    }

    pub(super) fn rename(&mut self, node: &Node, above: &Above) -> Result<Feed, CompileError> {
        let Node::Rename { input, schema } = node else { return Err(super::not_a("sub-query")) };
        let width = input.schema().fields().len();
        let rename = Rename::compile(input.schema(), schema, &input.changes(), &above.wanted)?;
        let rowtime = above.wanted.get(width).copied().unwrap_or(false);
        let rebuild = if rename.remembers() { Rebuild::Whole } else { above.rebuild };
        let below = above.single(wanted(input, above.read(width), std::iter::empty())?);
        let feed = self.node(input, &Above { rebuild, times: above.times || rowtime, ..below })?;
        Ok(self.place(rename, vec![feed], lag_ms(input)))
    }

    pub(super) fn retract(&mut self, node: &Node, above: &Above) -> Result<Feed, CompileError> {
        let Node::Retract { input } = node else { return Err(super::not_a("retraction")) };
        let Changes::Upsert(key) = input.changes() else {
            return Err(CompileError("only rows that replace one another by key can be turned into inserts and deletes".into()));
        };
        let read = above.read(above.wanted.len());
        let feed = self.node(input, &above.ordered(Rebuild::Whole, wanted(input, read, std::iter::empty())?))?;
        let retract = Retract::compile(&key, input.schema(), &above.wanted, above.times)?;
        Ok(self.place(retract, vec![feed], lag_ms(input)))
    }

    pub(super) fn union(&mut self, node: &Node, above: &Above) -> Result<Feed, CompileError> {
        let Node::Union { inputs, schema, changes } = node else { return Err(super::not_a("union")) };
        let mut feeds = Vec::with_capacity(inputs.len());
        for input in inputs {
            check_part(input, node)?;
            let read = above.read(above.wanted.len());
            feeds.push(self.node(input, &above.ordered(above.rebuild, wanted(input, read, std::iter::empty())?))?);
        }
        Ok(self.place(Union::new(schema, changes), feeds, inputs.iter().map(lag_ms).max().unwrap_or(0)))
    }

    pub(super) fn distinct(&mut self, node: &Node, above: &Above) -> Result<Feed, CompileError> {
        let Node::Distinct { input, changes } = node else { return Err(super::not_a("DISTINCT")) };
        let width = input.schema().fields().len();
        let rebuild = match (input.changes(), changes) {
            (Changes::Append, Changes::Append) => Rebuild::Nothing,
            (Changes::Retract, Changes::Upsert(key)) if key.iter().copied().eq(0..width) => Rebuild::Whole,
            _ => return Err(CompileError("DISTINCT needs rows that are only added, or taken back whole".into())),
        };
        let feed = self.node(input, &above.ordered(rebuild, vec![true; width]))?;
        Ok(self.place(Distinct::compile(input.schema(), changes)?, vec![feed], lag_ms(input)))
    }
}

/// An input of a union has the union's columns, and rows that are only added or taken back whole.
fn check_part(input: &Node, union: &Node) -> Result<(), CompileError> {
    let (made, wanted) = (input.schema().fields(), union.schema().fields());
    if made.len() != wanted.len() {
        return Err(CompileError(format!("a part of the union has {} columns and another {}", made.len(), wanted.len())));
    }
    for (made, wanted) in made.iter().zip(wanted) {
        if !made.data_type().equals_datatype(wanted.data_type()) {
            let (a, b) = (type_name(made.data_type()), type_name(wanted.data_type()));
            return Err(CompileError(format!("column {} of the union is {b}, but a part of it has {a}", wanted.name())));
        }
    }
    match (input.changes(), union.changes()) {
        (Changes::Append, Changes::Append | Changes::Retract) | (Changes::Retract, Changes::Retract) => Ok(()),
        _ => Err(CompileError("a union needs rows that are only added, or taken back whole".into())),
    }
}
