//! Top n: the first rows of each partition by an order, and by arrival where it says nothing.
//!
//! Of rows that are only added those that are not among the first are forgotten, since they never will be. Of rows that
//! are taken back all are kept. What is sent depends on the edge: of one row of a partition the next replaces it; numbered
//! rows replace one another by their number, so that all behind a new one are sent again; else a row that is pushed out is
//! taken back.

use arrow::compute::SortOptions;
use datafusion_common::DFSchema;
use datafusion_expr::Expr;

use super::batch::Batch;
use super::describe::{Description, State};
use super::error::{CompileError, Failure, StateError};
use super::expression::Expression;
use super::key::KeyEncoder;
use super::operator::{Operator, WriteState};
use super::ranking::{Change, Given, Ranking, Rules};
use super::saved::Saved;
use super::whole_row::{Cause, Sending, WholeRow};
use crate::sql::query::{Changes, Order};

pub(crate) struct TopN {
    partition: KeyEncoder,
    order: KeyEncoder,
    order_text: String,
    form: WholeRow,
    changes: Changes,
    limit: u64,
    numbered: bool,
    keeps_all: bool,
    rows: Ranking,
}

/// What is asked for: see `Node::TopN`.
pub(crate) struct Wanted<'a> {
    pub(crate) partition: &'a [Expr],
    pub(crate) order: &'a [Order],
    pub(crate) limit: u64,
    pub(crate) numbered: bool,
    pub(crate) changes: &'a Changes,
}

impl TopN {
    /// For rows of `input`, which are made rows of `schema`. `read` says which of the input's columns anybody reads, the
    /// operator itself included; `timed` that event times are read above.
    pub(crate) fn compile(
        wanted: &Wanted<'_>,
        (input, input_changes): (&DFSchema, &Changes),
        schema: &DFSchema,
        read: &[bool],
        timed: bool,
    ) -> Result<Self, CompileError> {
        let compile = |expr: &Expr| Expression::compile(expr, input);
        let partition = KeyEncoder::for_rows(wanted.partition.iter().map(compile).collect::<Result<_, _>>()?)?;
        let order = wanted.order.iter().map(|order| Ok((compile(&order.expr)?, sort_options(order))));
        let order = KeyEncoder::for_order(order.collect::<Result<_, CompileError>>()?)?;
        let order_text = order_text(&order, wanted.order);
        let form = WholeRow::new(input, read)?;
        let keeps_all = *input_changes == Changes::Retract;
        let meaning =
            [order_text.clone(), partition.text(), form.meaning(), format!("{} {} {keeps_all}", wanted.limit, wanted.numbered)];
        let layout = Saved::layout(&format!("top n\n{}", meaning.join("\n")));
        let limit = usize::try_from(wanted.limit).unwrap_or(usize::MAX);
        Ok(TopN {
            partition,
            order,
            order_text,
            form: form.sent_as(schema),
            changes: wanted.changes.clone(),
            limit: wanted.limit,
            numbered: wanted.numbered,
            keeps_all,
            rows: Ranking::new(Rules { limit, keeps_all, newest_first: false, timed, layout }),
        })
    }

    fn change(&mut self, given: Given<'_>, delete: bool, sending: &mut Sending) {
        let before = if self.numbered { self.rows.first(given.partition) } else { Vec::new() };
        let Change { gone, came } = if delete { self.rows.delete(given) } else { self.rows.insert(given) };
        if self.numbered {
            let send = |row: &[u8], number, delete| sending.numbered(row, number, given.cause, delete);
            return self.rows.renumber(given, &before, send);
        }
        if let Some(gone) = gone
            && (came.is_none() || self.changes == Changes::Retract)
        {
            sending.delete(&gone, given.cause);
        }
        if let Some(came) = came {
            sending.insert(&came, given.cause);
        }
    }
}

fn sort_options(order: &Order) -> SortOptions {
    SortOptions { descending: order.descending, nulls_first: order.nulls_first }
}

/// As SQL.
fn order_text(keys: &KeyEncoder, order: &[Order]) -> String {
    let direction = |order: &Order| {
        let nulls = if order.nulls_first { "NULLS FIRST" } else { "NULLS LAST" };
        format!("{} {nulls}", if order.descending { "DESC" } else { "ASC" })
    };
    let texts = keys.texts().zip(order).map(|(text, order)| format!("{text} {}", direction(order)));
    texts.collect::<Vec<_>>().join(", ")
}

impl Operator for TopN {
    fn push(&mut self, _port: usize, batch: &Batch) -> Result<Option<Batch>, Failure> {
        let partitions = self.partition.encode(&batch.rows)?;
        let orders = self.order.encode(&batch.rows)?;
        let rows = self.form.encode(&batch.rows)?;
        let mut sending = Sending::default();
        for i in 0..batch.len() {
            let cause = Cause::row(batch, i);
            let given = Given { partition: partitions.bytes(i), order: orders.bytes(i), row: rows.bytes(i), cause };
            self.change(given, batch.is_delete(i), &mut sending);
        }
        sending.into_batch(&self.form, &self.changes)
    }

    fn is_pure(&self, _port: usize) -> bool {
        false
    }

    fn state_bytes(&self) -> usize {
        self.rows.bytes()
    }

    fn has_changelog(&self) -> bool {
        true
    }

    fn drain_changelog(&mut self, write: &mut WriteState<'_>) {
        self.rows.drain_changelog(write);
    }

    fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        self.rows.restore(key, value)
    }

    fn recall(&mut self) -> Result<Vec<Batch>, Failure> {
        let mut sending = Sending::default();
        for (ranked, number) in self.rows.all_first() {
            let cause = Cause::time(ranked.time);
            match self.numbered {
                true => sending.numbered(&ranked.row, number, cause, false),
                false => sending.insert(&ranked.row, cause),
            }
        }
        Ok(sending.into_batch(&self.form, &self.changes)?.into_iter().collect())
    }

    fn describe(&self, inputs: Vec<Description>) -> Description {
        let (rows, partitions) = self.rows.counts();
        let limit = self.limit;
        let (what, why) = match self.keeps_all {
            true => (
                format!("all {rows} rows of {partitions} partitions; it grows with the tables below"),
                "since a row comes to the front when one before it goes",
            ),
            false => (
                format!("the first {limit} rows of each of {partitions} partitions, {rows} in all; it grows with the partitions"),
                "since the next row may come before them",
            ),
        };
        Description::stateless("top n", self.form.schema(), &self.changes, inputs)
            .detail("partition by", self.partition.text())
            .detail("order by", self.order_text.clone())
            .detail("first", limit.to_string())
            .state(State { what, why: why.into(), rebuilt: "the changelog".into(), bytes: self.rows.bytes() })
    }
}
