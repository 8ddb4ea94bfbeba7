//! Apply: looks at the world, and carries a plan out.
//!
//! A walk: [`observe`] asks a [`Target`] for all that a plan must know; the plan is made elsewhere and leaves no choice;
//! [`execute`] takes the lease, commits what is about to be owned, carries the steps out in batches, and tells what
//! happened. A target is the live cluster ([`Live`]) or one in memory ([`Memory`]).

mod error;
mod executor;
mod live;
pub mod memory;
mod target;

pub use error::{ApplyError, ErrorKind};
pub use executor::{Event, Outcome, State, StepResult, execute};
pub use live::Live;
pub use memory::Memory;
pub use target::{Question, StepError, Target, Who};

use crate::plan::{Desired, Observed};

/// All that a plan for `desired` must know.
pub async fn observe<T: Target>(target: &mut T, desired: &Desired) -> Result<Observed, ApplyError> {
    target.observe(&Question::of(desired)).await
}
