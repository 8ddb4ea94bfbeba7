//! Compiling the operators on whole rows: renamed, taken back, under another key, in one, each once, the first, spread.

use super::{Above, Feed, Graph, keeps_rows, lag_ms, wanted};
use crate::engine::dataflow::Rebuild;
use crate::engine::distinct::Distinct;
use crate::engine::error::CompileError;
use crate::engine::filter::Filter;
use crate::engine::first_row::FirstRow;
use crate::engine::rekey::Rekey;
use crate::engine::rename::Rename;
use crate::engine::retract::Retract;
use crate::engine::top_n::{TopN, Wanted};
use crate::engine::union::Union;
use crate::engine::unnest::Unnest;
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
        // A row's time is found by the whole row: one that is equal only in what is read may have another.
        let (rebuild, read) = match rename.remembers() {
            true => (Rebuild::Whole, vec![true; width]),
            false => (above.rebuild, wanted(input, above.read(width), std::iter::empty())?),
        };
        let below = above.single(read);
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

    pub(super) fn rekey(&mut self, node: &Node, above: &Above) -> Result<Feed, CompileError> {
        let Node::Rekey { input, key } = node else { return Err(super::not_a("re-keying")) };
        if input.changes() != Changes::Retract {
            return Err(CompileError("rows get another key only where they are taken back whole".into()));
        }
        // Rows that are equal only in what is read came at different times, and it matters which of them goes.
        let read = vec![true; input.schema().fields().len()];
        let feed = self.node(input, &above.ordered(Rebuild::Nothing, read.clone()))?;
        let rekey = Rekey::compile(key, input.schema(), &read, above.times, above.depth == 0)?;
        Ok(self.place(rekey, vec![feed], lag_ms(input)))
    }

    pub(super) fn top_n(&mut self, node: &Node, above: &Above) -> Result<Feed, CompileError> {
        let Node::TopN { input, partition, order, limit, numbered, schema, changes } = node else {
            return Err(super::not_a("top n"));
        };
        let width = input.schema().fields().len();
        let input_changes = input.changes();
        let fits = match changes {
            Changes::Append => input_changes == Changes::Append && *limit == 1,
            Changes::Upsert(key) => *limit == 1 || (*numbered && key.contains(&width)),
            Changes::Retract => !numbered,
        };
        if !fits || matches!(input_changes, Changes::Upsert(_)) || schema.fields().len() != width + usize::from(*numbered) {
            return Err(CompileError("the first rows of a partition can't be sent in this way".into()));
        }
        let read = match input_changes {
            // As in a re-keying: it matters which row goes.
            Changes::Retract => vec![true; width],
            _ => wanted(input, above.read(width), node.expressions().into_iter())?,
        };
        let below = Above { origins: *changes == Changes::Append, ..above.ordered(Rebuild::Nothing, read.clone()) };
        let feed = self.node(input, &below)?;
        if *changes == Changes::Append {
            super::windows::require_timely(input)?;
            let keeps_sent = above.rebuild != Rebuild::Nothing;
            let first = FirstRow::compile(partition, *numbered, (input.schema(), schema), &read, keeps_sent)?;
            return Ok(self.place(first, vec![feed], lag_ms(input)));
        }
        let wanted = Wanted { partition, order, limit: *limit, numbered: *numbered, changes };
        let top = TopN::compile(&wanted, (input.schema(), &input_changes), schema, &read, above.times)?;
        Ok(self.place(top, vec![feed], lag_ms(input)))
    }

    pub(super) fn unnest(&mut self, node: &Node, above: &Above) -> Result<Feed, CompileError> {
        let Node::Unnest { input, list, outer, ordinality, schema } = node else { return Err(super::not_a("UNNEST")) };
        if matches!(input.changes(), Changes::Upsert(_)) {
            return Err(CompileError("UNNEST needs rows that are only added, or taken back whole".into()));
        }
        let read = above.read(input.schema().fields().len());
        let feed = self.node(input, &above.single(wanted(input, read, std::iter::once(list))?))?;
        let edge = (input.schema().as_ref(), &input.changes());
        let unnest = Unnest::compile(list, (*outer, *ordinality), edge, schema, &above.wanted)?;
        Ok(self.place(unnest, vec![feed], lag_ms(input)))
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
