//! Faults on request, for tests: delays, error codes, connections that drop before or after the work was done.
//!
//! A fault names an API and says how often it strikes: by count, or by probability from a seed, so that a failing test can
//! be run again as it was.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ApiKey;
use serde::Deserialize;

use super::dispatch::SERVED;
use super::refusals::REFUSABLE;

/// What a fault does to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Answered only after this time.
    Delay(Duration),
    /// Answered with this error code; the work is not done.
    Error(i16),
    /// The connection ends; the work is not done.
    DropBefore,
    /// The work is done, and the connection ends without an answer.
    DropAfter,
}

/// One fault.
#[derive(Debug, Clone)]
pub struct Fault {
    pub api: ApiKey,
    pub effect: Effect,
    /// Requests of that API that pass before the first is struck.
    pub skip: u32,
    /// How many are struck at most; `None`: no limit.
    pub count: Option<u32>,
    /// How likely each one is struck, between 0 and 1.
    pub probability: f64,
}

impl Fault {
    /// Strikes the next request of an API, once.
    pub fn once(api: ApiKey, effect: Effect) -> Fault {
        Fault { api, effect, skip: 0, count: Some(1), probability: 1.0 }
    }
}

/// The faults of a broker. They may be changed while it runs.
#[derive(Debug)]
pub struct Faults(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    faults: Vec<Fault>,
    random: fastrand::Rng,
    /// How many requests were struck.
    struck: u64,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults::new(Vec::new(), 0)
    }
}

impl Faults {
    /// `seed` decides which requests are struck where probabilities are given.
    pub fn new(faults: Vec<Fault>, seed: u64) -> Faults {
        Faults(Mutex::new(Inner { faults, random: fastrand::Rng::with_seed(seed), struck: 0 }))
    }

    /// Adds a fault to those there are.
    pub fn add(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Takes all faults away.
    pub fn clear(&self) {
        self.lock().faults.clear();
    }

    /// How many requests were struck until now.
    pub fn struck(&self) -> u64 {
        self.lock().struck
    }

    /// What happens to the next request of an API: the effect of the first fault that strikes.
    pub(super) fn strike(&self, api: ApiKey) -> Option<Effect> {
        let mut inner = self.lock();
        let Inner { faults, random, struck } = &mut *inner;
        for fault in faults.iter_mut().filter(|fault| fault.api == api && fault.count != Some(0)) {
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if fault.probability >= 1.0 || random.f64() < fault.probability {
                fault.count = fault.count.map(|count| count - 1);
                *struck += 1;
                return Some(fault.effect);
            }
        }
        None
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file of faults.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    seed: u64,
    faults: Vec<Written>,
}

/// A fault as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    api: String,
    #[serde(default)]
    skip: u32,
    count: Option<u32>,
    probability: Option<f64>,
    delay_ms: Option<u64>,
    error: Option<String>,
    drop: Option<Moment>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Moment {
    Before,
    After,
}

/// Why a file of faults can't be used.
#[derive(Debug, PartialEq, Eq)]
pub struct Unusable(String);

impl std::error::Error for Unusable {}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Faults {
    /// Reads a file's text: YAML with `faults`, a list, and a `seed`.
    ///
    /// # Errors
    /// Says which fault is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Faults, Unusable> {
        let file: File = serde_yaml::from_str(text).map_err(|error| Unusable(error.to_string()))?;
        let fault = |(at, written): (usize, &Written)| {
            fault(written).map_err(|reason| Unusable(format!("fault {} ({}): {reason}", at + 1, written.api)))
        };
        let faults = file.faults.iter().enumerate().map(fault).collect::<Result<_, _>>()?;
        Ok(Faults::new(faults, file.seed))
    }
}

fn fault(written: &Written) -> Result<Fault, String> {
    let named = SERVED.iter().map(|(api, ..)| *api).find(|api| format!("{api:?}") == written.api);
    let api = named.ok_or("no API that the broker serves has this name; names are Kafka's, such as EndTxn")?;
    let effect = match (written.delay_ms, &written.error, written.drop) {
        (Some(ms), None, None) => Effect::Delay(Duration::from_millis(ms)),
        (None, Some(name), None) => Effect::Error(error_code(name)?),
        (None, None, Some(Moment::Before)) => Effect::DropBefore,
        (None, None, Some(Moment::After)) => Effect::DropAfter,
        _ => return Err("say one of delay_ms: 200, error: NOT_COORDINATOR, drop: before, drop: after".into()),
    };
    if matches!(effect, Effect::Error(_)) && !REFUSABLE.contains(&api) {
        return Err("answers of this API can't be made up; delay_ms and drop work for every API".into());
    }
    let probability = written.probability.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&probability) {
        return Err(format!("probability {probability} is not between 0 and 1"));
    }
    Ok(Fault { api, effect, skip: written.skip, count: written.count, probability })
}

/// The code of an error by its name, such as `NOT_COORDINATOR`.
fn error_code(name: &str) -> Result<i16, String> {
    let plain = name.replace('_', "").to_lowercase();
    let of = |code: &i16| ResponseError::try_from_code(*code).is_some_and(|error| error.to_string().to_lowercase() == plain);
    (-1..200).find(of).ok_or_else(|| format!("Kafka has no error {name}; names are such as NOT_COORDINATOR"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_strike_as_often_as_they_say() {
        let fault = Fault { skip: 1, count: Some(2), ..Fault::once(ApiKey::EndTxn, Effect::DropAfter) };
        let faults = Faults::new(vec![fault], 0);
        let struck: Vec<bool> = (0..5).map(|_| faults.strike(ApiKey::EndTxn).is_some()).collect();
        assert_eq!(struck, [false, true, true, false, false]);
        assert_eq!(faults.strike(ApiKey::Produce), None);
    }

    #[test]
    fn a_seed_gives_the_same_again() {
        let pattern = |seed| {
            let fault = Fault { count: None, probability: 0.5, ..Fault::once(ApiKey::Fetch, Effect::DropBefore) };
            let faults = Faults::new(vec![fault], seed);
            (0..64).map(|_| faults.strike(ApiKey::Fetch).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(pattern(7), pattern(7));
        assert_ne!(pattern(7), pattern(8));
    }

    #[test]
    fn a_wrong_file_says_what_would_be_right() {
        let refused = |text: &str| Faults::parse(text).unwrap_err().to_string();
        assert_eq!(
            refused("faults: [{api: EndTransaction, drop: after}]"),
            "fault 1 (EndTransaction): no API that the broker serves has this name; names are Kafka's, such as EndTxn"
        );
        assert_eq!(
            refused("faults: [{api: ApiVersions}]"),
            "fault 1 (ApiVersions): say one of delay_ms: 200, error: NOT_COORDINATOR, drop: before, drop: after"
        );
        assert_eq!(
            refused("faults: [{api: ApiVersions, error: NOT_COORDINATOR}]"),
            "fault 1 (ApiVersions): answers of this API can't be made up; delay_ms and drop work for every API"
        );
        assert_eq!(
            refused("faults: [{api: ApiVersions, error: NO_COORDINATOR}]"),
            "fault 1 (ApiVersions): Kafka has no error NO_COORDINATOR; names are such as NOT_COORDINATOR"
        );
        assert!(refused("faults: [{api: ApiVersions, drop: after, often: yes}]").contains("often"));
    }
}
