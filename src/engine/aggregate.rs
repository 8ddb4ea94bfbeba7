//! Aggregate: one row for each group, sent when it changes.
//!
//! A step sends a group's row at most once, after all its changes, and only if it differs from the one before; it has the
//! greatest event time of the rows that went into it. A group whose last row goes is deleted, here and downstream; the one
//! group of a query without GROUP BY stays.

use datafusion_common::DFSchema;
use datafusion_expr::Expr;

use super::batch::Batch;
use super::describe::{Description, State};
use super::error::{CompileError, Failure, StateError};
use super::groups::Groups;
use super::operator::{Operator, WriteState};
use crate::sql::query::{self, Changes};

pub(crate) struct Aggregate {
    groups: Groups,
    changes: Changes,
    failures: Vec<Failure>,
}

impl Aggregate {
    /// Groups rows of `input` by expressions. `retracts`: it takes rows back.
    pub(crate) fn compile(
        group: &[Expr],
        aggregates: &[query::Aggregate],
        (input, retracts): (&DFSchema, bool),
        schema: &DFSchema,
        changes: &Changes,
    ) -> Result<Self, CompileError> {
        let groups = Groups::compile_for(group, aggregates, (input, retracts), schema, "")?;
        Ok(Aggregate { groups, changes: changes.clone(), failures: Vec::new() })
    }

    fn timed(&self, places: Vec<usize>) -> Vec<(i64, usize)> {
        places.into_iter().filter_map(|at| Some((self.groups.time(at)?, at))).collect()
    }

    /// Whether it needs all columns of its input.
    pub(crate) fn reads_whole_rows(&self) -> bool {
        self.groups.reads_whole_rows()
    }
}

impl Operator for Aggregate {
    fn push(&mut self, _port: usize, batch: &Batch) -> Result<Option<Batch>, Failure> {
        let prepared = self.groups.prepare(batch)?;
        for (i, time) in batch.times.iter().enumerate() {
            self.groups.change(&prepared, i, *time, batch.is_delete(i));
        }
        Ok(None)
    }

    fn is_pure(&self, _port: usize) -> bool {
        false
    }

    fn flush(&mut self) -> Result<Vec<Batch>, Failure> {
        let changed = self.groups.take_changed();
        self.groups.news(&self.timed(changed), &mut self.failures)
    }

    fn take_failures(&mut self) -> Vec<Failure> {
        std::mem::take(&mut self.failures)
    }

    fn state_bytes(&self) -> usize {
        self.groups.bytes()
    }

    fn has_changelog(&self) -> bool {
        true
    }

    fn drain_changelog(&mut self, write: &mut WriteState<'_>) {
        self.groups.drain(write);
    }

    fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        self.groups.restore(key, value).map(drop)
    }

    /// Groups that have no row were told when they lost it.
    fn recall(&mut self) -> Result<Vec<Batch>, Failure> {
        self.groups.rows(&self.timed(self.groups.places()), &mut Vec::new())
    }

    fn describe(&self, inputs: Vec<Description>) -> Description {
        let (group, aggregates) = self.groups.text();
        let kept = self.groups.kept().map(|kept| format!(", with {kept}")).unwrap_or_default();
        Description::stateless("aggregate", self.groups.schema(), &self.changes, inputs)
            .detail("group by", group)
            .detail("aggregates", aggregates)
            .state(State {
                what: format!("one entry for each of {} groups{kept}", self.groups.len()),
                why: "since the next row of a group changes its result".into(),
                rebuilt: "the changelog".into(),
                bytes: self.groups.bytes(),
            })
    }
}
