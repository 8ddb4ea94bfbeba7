//! What a dataflow is made of, for `mesh explain`.

use std::fmt;

use arrow::datatypes::Schema;

use crate::sql::query::Changes;

/// One operator and those that feed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// What it is: `lookup join`.
    pub operator: String,
    /// Its expressions, each with a name: `("on", "s.station_id = i.station_id")`.
    pub details: Vec<(&'static str, String)>,
    /// What the changes on its output mean.
    pub changes: Changes,
    /// The output columns that form the key; empty without one.
    pub key: Vec<String>,
    /// What it remembers; `None`: nothing.
    pub state: Option<State>,
    /// What feeds it, left first.
    pub inputs: Vec<Description>,
}

/// What an operator remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// What: `the table's rows by i.station_id`.
    pub what: String,
    /// Why it can't do without.
    pub why: String,
    /// Where it comes from after a restart.
    pub rebuilt: String,
    /// How many bytes it takes at the moment, estimated.
    pub bytes: usize,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

impl Description {
    /// An operator without state, details and a state to be added.
    pub(crate) fn stateless(operator: &str, schema: &Schema, changes: &Changes, inputs: Vec<Description>) -> Self {
        let names =
            |key: &[usize]| key.iter().filter_map(|at| schema.fields().get(*at)).map(|field| field.name().clone()).collect();
        let key = if let Changes::Upsert(key) = changes { names(key) } else { Vec::new() };
        Description { operator: operator.into(), details: Vec::new(), changes: changes.clone(), key, state: None, inputs }
    }

    /// The same with one more detail.
    pub(crate) fn detail(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.details.push((name, text.into()));
        self
    }

    /// The same with one more detail, if there is any.
    pub(crate) fn detail_if(self, name: &'static str, text: Option<impl Into<String>>) -> Self {
        match text {
            Some(text) => self.detail(name, text),
            None => self,
        }
    }

    /// The same with a state.
    pub(crate) fn state(self, state: State) -> Self {
        Description { state: Some(state), ..self }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let indent = "  ".repeat(depth);
        write!(f, "{indent}{} [{}]", self.operator, self.edge())?;
        for (name, text) in &self.details {
            write!(f, "\n{indent}    {name}: {text}")?;
        }
        if let Some(state) = &self.state {
            write!(f, "\n{indent}    remembers: {}, {} ({} bytes)", state.what, state.why, state.bytes)?;
            write!(f, "\n{indent}    rebuilt from: {}", state.rebuilt)?;
        }
        writeln!(f)?;
        self.inputs.iter().try_for_each(|input| input.write(f, depth + 1))
    }

    /// What the changes on its output mean, in words.
    pub fn edge(&self) -> String {
        match self.changes {
            Changes::Append => "append".into(),
            Changes::Upsert(_) => format!("upsert by {}", self.key.join(", ")),
            Changes::Retract => "retract".into(),
        }
    }
}
