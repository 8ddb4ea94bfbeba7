//! Filter: rows for which the predicate is true.
//!
//! On an upsert edge a row that fails must take back what an earlier row of its key may have sent, so it becomes a
//! delete. Deletes of keys that were never sent are harmless, and knowing the sent keys would mean reading the whole
//! table again after a restart, so above a scan they are not known. Above an operator that keeps its rows in memory
//! anyway (an aggregate, a table join) they are: there every change of a group that fails would become a tombstone.
//! Where rows are taken back whole, a delete passes if the insert that it takes back did.

use arrow::array::BooleanArray;
use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::SchemaRef;
use datafusion_common::DFSchema;
use datafusion_expr::Expr;

use super::batch::Batch;
use super::describe::{Description, State};
use super::error::{CompileError, Failure};
use super::expression::{Expression, nullable};
use super::key::{KeyEncoder, KeyMap};
use super::operator::Operator;
use crate::sql::query::Changes;

pub(crate) struct Filter {
    predicate: Expression,
    schema: SchemaRef,
    changes: Changes,
    sent: Option<Sent>,
}

/// The keys whose last row was sent on.
struct Sent {
    key: KeyEncoder,
    keys: KeyMap<()>,
}

impl Filter {
    /// Keeps rows of `schema` for which `predicate` is true. `remember`: only rows that were sent are taken back.
    pub(crate) fn compile(predicate: &Expr, schema: &DFSchema, changes: &Changes, remember: bool) -> Result<Self, CompileError> {
        let sent = match changes {
            Changes::Upsert(key) if remember => {
                let columns = key.iter().map(|at| Expression::column(*at, schema)).collect::<Result<_, _>>()?;
                Some(Sent { key: KeyEncoder::for_rows(columns)?, keys: KeyMap::default() })
            }
            _ => None,
        };
        let predicate = Expression::compile_condition(predicate, schema)?;
        Ok(Filter { predicate, schema: nullable(schema), changes: changes.clone(), sent })
    }

    fn push_upsert(&mut self, batch: &Batch) -> Result<Option<Batch>, Failure> {
        let deletes = if batch.has_deletes() {
            let inserted = batch.inserted();
            let passed = self.predicate.holds(&batch.take(&inserted)?.rows)?;
            let mut deletes = vec![true; batch.len()];
            for (row, passed) in inserted.iter().zip(passed.values()) {
                if let Some(delete) = deletes.get_mut(*row as usize) {
                    *delete = !passed;
                }
            }
            deletes
        } else {
            self.predicate.holds(&batch.rows)?.values().iter().map(|passed| !passed).collect()
        };
        let out = Batch { deletes: Some(BooleanArray::from(deletes)), ..batch.clone() };
        self.sent.as_mut().map_or_else(|| Ok(Some(out.clone())), |sent| sent.without_idle_deletes(&out))
    }
}

impl Sent {
    /// The batch without the deletes of keys that are not there.
    fn without_idle_deletes(&mut self, batch: &Batch) -> Result<Option<Batch>, Failure> {
        let keys = self.key.encode(&batch.rows)?;
        let mut wanted = Vec::with_capacity(batch.len());
        for i in 0..batch.len() {
            let key = keys.bytes(i);
            if !batch.is_delete(i) {
                self.keys.entry_ref(key).insert(());
            } else if self.keys.remove(key).is_none() {
                continue;
            }
            wanted.extend(u32::try_from(i));
        }
        Ok(if wanted.is_empty() { None } else { Some(batch.take(&wanted)?) })
    }
}

impl Operator for Filter {
    fn push(&mut self, _port: usize, batch: &Batch) -> Result<Option<Batch>, Failure> {
        if matches!(self.changes, Changes::Upsert(_)) {
            return self.push_upsert(batch);
        }
        let passed = self.predicate.holds(&batch.rows)?;
        Ok(match passed.true_count() {
            0 => None,
            all if all == batch.len() => Some(batch.clone()),
            _ => {
                let times = batch.times.iter().zip(passed.values()).filter(|(_, passed)| *passed).map(|(time, _)| *time);
                let deletes = match &batch.deletes {
                    Some(deletes) => Some(BooleanArray::from(arrow::array::Array::to_data(&filter(deletes, &passed)?))),
                    None => None,
                };
                let origins = batch.origins.as_ref().map(|origins| {
                    origins.iter().zip(passed.values()).filter(|(_, passed)| *passed).map(|(origin, _)| *origin).collect()
                });
                Some(Batch { rows: filter_record_batch(&batch.rows, &passed)?, times: times.collect(), deletes, origins })
            }
        })
    }

    fn is_pure(&self, _port: usize) -> bool {
        self.sent.is_none()
    }

    fn state_bytes(&self) -> usize {
        self.sent.as_ref().map_or(0, |sent| sent.keys.keys().map(|key| key.len() + 24).sum())
    }

    fn describe(&self, inputs: Vec<Description>) -> Description {
        let description = Description::stateless("filter", &self.schema, &self.changes, inputs);
        let description = description.detail("where", self.predicate.text());
        match &self.sent {
            None => description,
            Some(sent) => description.state(State {
                what: format!("the keys ({}) of the rows it let through", sent.key.text()),
                why: "so that only these are taken back".into(),
                rebuilt: "the operator below".into(),
                bytes: self.state_bytes(),
            }),
        }
    }
}
