//! Walks a plan: a dull list of batches, and what became of each step.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{ApplyError, ErrorKind};
use super::target::{Target, Who};
use crate::model::ResourceId;
use crate::plan::step::{Action, Plan, Step};

/// What happens while a plan is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The lease is ours.
    Begun,
    /// A step is being carried out.
    Started { step: String },
    /// A step has ended.
    Ended { step: String, state: State },
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Done,
    /// The reason. It may have been done all the same; the next plan tells.
    Failed(String),
    /// A step that it depends on, or the reason why nothing more was tried.
    Skipped(String),
}

/// A step and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepResult {
    pub step: String,
    pub product: Option<String>,
    pub state: State,
}

/// What became of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// In the order of the plan.
    pub results: Vec<StepResult>,
    /// Why it ended early, or could not give the lease back.
    pub error: Option<ApplyError>,
}

impl Outcome {
    /// Whether every step was done and nothing else went wrong.
    pub fn is_success(&self) -> bool {
        self.error.is_none() && self.results.iter().all(|result| result.state == State::Done)
    }

    /// How many steps were done, failed and skipped.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |want: fn(&State) -> bool| self.results.iter().filter(|result| want(&result.state)).count();
        (
            count(|state| *state == State::Done),
            count(|state| matches!(state, State::Failed(_))),
            count(|state| matches!(state, State::Skipped(_))),
        )
    }
}

/// Carries `plan` out. A failed step stops what depends on it; the rest goes on. An empty plan touches nothing.
pub async fn execute<T: Target>(target: &mut T, plan: &Plan, who: &Who, on_event: &mut (dyn FnMut(Event) + Send)) -> Outcome {
    let mut walk = Walk { steps: &plan.steps, states: BTreeMap::new(), on_event, lost: None };
    if plan.steps.is_empty() {
        return Outcome::default();
    }
    // Mesh's own topics come before the lease, which is kept in one of them.
    let own: Vec<&Step> = plan.steps.iter().filter(|step| is_own_topic(step)).collect();
    if !own.is_empty() {
        walk.batch(target, &own).await;
    }
    let ready = own.iter().all(|step| walk.states.get(&step.id) == Some(&State::Done));
    let mut error = None;
    if ready {
        match target.begin(who, &plan.intents).await {
            Ok(()) => {
                (walk.on_event)(Event::Begun);
                walk.rest(target).await;
                error = match walk.lost.take() {
                    Some(lost) => Some(lost),
                    None => target.end().await.err(),
                };
            }
            Err(refused) => error = Some(refused),
        }
    }
    walk.outcome(error)
}

fn is_own_topic(step: &Step) -> bool {
    step.product.is_none() && matches!(step.resource, ResourceId::Topic(_))
}

struct Walk<'a> {
    steps: &'a [Step],
    states: BTreeMap<String, State>,
    on_event: &'a mut (dyn FnMut(Event) + Send),
    /// Set when another apply has taken over: then nothing more is tried.
    lost: Option<ApplyError>,
}

impl<'a> Walk<'a> {
    async fn rest<T: Target>(&mut self, target: &mut T) {
        while self.lost.is_none() {
            self.skip_hopeless();
            let batch = self.next_batch();
            if batch.is_empty() {
                return;
            }
            self.batch(target, &batch).await;
        }
    }

    fn pending(&self) -> impl Iterator<Item = &'a Step> + '_ {
        self.steps.iter().filter(|step| !self.states.contains_key(&step.id))
    }

    /// Marks what can no longer be done, since a step before it was not.
    fn skip_hopeless(&mut self) {
        loop {
            let not_done = |id: &&String| matches!(self.states.get(*id), Some(State::Failed(_) | State::Skipped(_)));
            let hopeless = self.pending().find_map(|step| Some((step, step.depends_on.iter().find(not_done)?.clone())));
            let Some((step, cause)) = hopeless else { return };
            self.set(step, State::Skipped(format!("needs {cause}")));
        }
    }

    /// The steps that can be done now and are of the same kind as the first of them, in the plan's order.
    fn next_batch(&self) -> Vec<&'a Step> {
        let names: BTreeSet<&String> = self.steps.iter().map(|step| &step.id).collect();
        let done = |id: &String| !names.contains(id) || self.states.get(id) == Some(&State::Done);
        let kind = |step: &Step| (step.resource.kind(), step.action == Action::Delete);
        let ready: Vec<&Step> = self.pending().filter(|step| step.depends_on.iter().all(done)).collect();
        let first = ready.first().map(|step| kind(step));
        ready.into_iter().filter(|step| Some(kind(step)) == first).collect()
    }

    async fn batch<T: Target>(&mut self, target: &mut T, batch: &[&'a Step]) {
        for step in batch {
            (self.on_event)(Event::Started { step: step.id.clone() });
        }
        let mut results = target.execute(batch).await.into_iter();
        for step in batch {
            let state = match results.next() {
                Some(Ok(())) => State::Done,
                Some(Err(error)) => {
                    if error.kind == ErrorKind::Fenced {
                        self.lost.get_or_insert_with(|| fenced(&error.message));
                    }
                    State::Failed(error.message)
                }
                None => State::Failed("the target gave no answer for it".into()),
            };
            self.set(step, state);
        }
    }

    fn set(&mut self, step: &Step, state: State) {
        (self.on_event)(Event::Ended { step: step.id.clone(), state: state.clone() });
        self.states.insert(step.id.clone(), state);
    }

    fn outcome(mut self, error: Option<ApplyError>) -> Outcome {
        let why = match &error {
            Some(error) => error.message.clone(),
            None => "a step that it depends on was not done".into(),
        };
        for step in self.pending().collect::<Vec<_>>() {
            self.set(step, State::Skipped(why.clone()));
        }
        let result = |step: &Step| StepResult {
            step: step.id.clone(),
            product: step.product.clone(),
            state: self.states.get(&step.id).cloned().unwrap_or(State::Skipped(String::new())),
        };
        Outcome { results: self.steps.iter().map(result).collect(), error }
    }
}

fn fenced(message: &str) -> ApplyError {
    ApplyError {
        kind: ErrorKind::Fenced,
        endpoint: "catalog".into(),
        operation: "keep the lease".into(),
        message: message.into(),
    }
}
