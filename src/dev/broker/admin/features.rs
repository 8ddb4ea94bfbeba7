//! What the cluster has agreed on (KIP-584): the features that `ApiVersions` shows and `UpdateFeatures` changes.
//!
//! The ranges are Kafka 4.3's, as are the levels of a new cluster. Only `transaction.version` can be changed: by it clients
//! decide between the transactions of KIP-98 and those of KIP-890, and both are served. Features of what is not served here,
//! which are share groups and streams groups, are left out.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::{FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::update_features_response::UpdatableFeatureResult;
use kafka_protocol::messages::{ApiVersionsResponse, UpdateFeaturesRequest, UpdateFeaturesResponse};
use serde::{Deserialize, Serialize};

use super::{storage_failed, text, told};
use crate::dev::broker::configs::Refused;
use crate::dev::broker::journal::{Change, Journal, Kind};
use crate::dev::broker::{Broker, Call};

/// The one that can be changed.
const TRANSACTIONS: &str = "transaction.version";

/// Name, lowest and highest level that are known, and the level of a new cluster.
const FEATURES: &[(&str, i16, i16, i16)] = &[
    ("eligible.leader.replicas.version", 0, 1, 1),
    ("group.version", 0, 1, 1),
    ("kraft.version", 0, 1, 0),
    ("metadata.version", 7, 30, 30),
    (TRANSACTIONS, 0, 2, 2),
];

/// The levels that were agreed on.
#[derive(Debug)]
pub struct Features {
    agreed: Mutex<Agreed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Agreed {
    /// The level of `transaction.version`.
    transactions: i16,
    /// Goes up with every change.
    epoch: i64,
}

impl Features {
    /// What the journal keeps.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub(in crate::dev::broker) fn open(journal: &Journal) -> io::Result<Features> {
        let kept = journal.read::<Agreed>(Kind::Feature)?.into_iter().next();
        let agreed = kept.map_or(Agreed { transactions: 2, epoch: 0 }, |(_, agreed)| agreed);
        Ok(Features { agreed: Mutex::new(agreed) })
    }

    /// The level of `transaction.version`: from 2 on clients speak as KIP-890 says.
    pub fn transaction_version(&self) -> i16 {
        self.agreed().transactions
    }

    /// Adds the features to the answer of `ApiVersions`. Before version 4 a client cannot read a range that begins with 0.
    pub fn show(&self, response: ApiVersionsResponse, version: i16) -> ApiVersionsResponse {
        let agreed = *self.agreed();
        let supported = |(name, min, max, _): &(&str, i16, i16, i16)| {
            SupportedFeatureKey::default().with_name(text(*name)).with_min_version(*min).with_max_version(*max)
        };
        let finalized = |(name, .., level): &(&str, i16, i16, i16)| {
            let level = if *name == TRANSACTIONS { agreed.transactions } else { *level };
            let key = FinalizedFeatureKey::default().with_name(text(*name));
            (level > 0).then(|| key.with_min_version_level(level).with_max_version_level(level))
        };
        response
            .with_supported_features(FEATURES.iter().filter(|(_, min, ..)| version >= 4 || *min > 0).map(supported).collect())
            .with_finalized_features_epoch(agreed.epoch)
            .with_finalized_features(FEATURES.iter().filter_map(finalized).collect())
    }

    fn agreed(&self) -> MutexGuard<'_, Agreed> {
        self.agreed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `UpdateFeatures`: all of them or none.
pub async fn update(broker: &Arc<Broker>, call: &Call, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    let outcome = updated(broker, &request);
    let response = UpdateFeaturesResponse::default().with_error_message(None);
    if outcome.is_err() {
        let (code, message) = told(outcome);
        return response.with_error_code(code).with_error_message(message);
    }
    let result = |update: &FeatureUpdateKey| {
        UpdatableFeatureResult::default().with_feature(update.feature.clone()).with_error_message(None)
    };
    // From version 2 on there is one answer for all.
    let results = request.feature_updates.iter().filter(|_| call.version < 2).map(result).collect();
    response.with_results(results)
}

fn updated(broker: &Broker, request: &UpdateFeaturesRequest) -> Result<(), Refused> {
    let mut agreed = broker.features.agreed();
    let mut after = *agreed;
    for update in &request.feature_updates {
        // In version 0 the kind of change is what it is by default, an upgrade, whatever its flag for downgrades says.
        after = step(after, update.feature.as_str(), update.max_version_level, update.upgrade_type)
            .map_err(|why| Refused::new(ResponseError::InvalidUpdateVersion, format!("No feature was changed: {why}")))?;
    }
    if after.transactions == agreed.transactions || request.validate_only {
        return Ok(());
    }
    after.epoch = agreed.epoch.saturating_add(1);
    let write = Change::put(Kind::Feature, "all", &after).and_then(|change| broker.journal.write(&[change]));
    write.map_err(|_| storage_failed())?;
    *agreed = after;
    Ok(())
}

/// One feature's change, upgrade (1), safe downgrade (2) or unsafe downgrade (3); or why it cannot be.
fn step(agreed: Agreed, name: &str, level: i16, way: i8) -> Result<Agreed, String> {
    let Some((_, min, max, fixed)) = FEATURES.iter().find(|(of, ..)| *of == name) else {
        return Err(format!("{name} is not a feature of this broker."));
    };
    if !(*min..=*max).contains(&level) {
        return Err(format!("{name} can be {min} to {max}, not {level}."));
    }
    let now = if name == TRANSACTIONS { agreed.transactions } else { *fixed };
    if !(1..=3).contains(&way) {
        return Err(format!("{name}: {way} is neither upgrade nor downgrade."));
    }
    if level < now && way == 1 {
        return Err(format!("{name} is {now}; to make it {level}, ask for a downgrade."));
    }
    if level > now && way != 1 {
        return Err(format!("{name} is {now}; to make it {level}, ask for an upgrade."));
    }
    if name == TRANSACTIONS {
        return Ok(Agreed { transactions: level, ..agreed });
    }
    if level != now { Err(format!("{name} is {now} on this broker and cannot be changed.")) } else { Ok(agreed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_version_of_transactions_changes() {
        let now = Agreed { transactions: 1, epoch: 0 };
        let told = |name: &str, level, way| match step(now, name, level, way) {
            Ok(after) => after.transactions.to_string(),
            Err(why) => why,
        };
        let table = [
            (TRANSACTIONS, 2, 1, "2"),
            (TRANSACTIONS, 1, 1, "1"),
            (TRANSACTIONS, 0, 2, "0"),
            (TRANSACTIONS, 0, 3, "0"),
            (TRANSACTIONS, 0, 1, "transaction.version is 1; to make it 0, ask for a downgrade."),
            (TRANSACTIONS, 2, 2, "transaction.version is 1; to make it 2, ask for an upgrade."),
            (TRANSACTIONS, 3, 1, "transaction.version can be 0 to 2, not 3."),
            (TRANSACTIONS, -1, 2, "transaction.version can be 0 to 2, not -1."),
            (TRANSACTIONS, 1, 0, "transaction.version: 0 is neither upgrade nor downgrade."),
            ("group.version", 1, 1, "1"),
            ("group.version", 0, 2, "group.version is 1 on this broker and cannot be changed."),
            ("kraft.version", 1, 1, "kraft.version is 0 on this broker and cannot be changed."),
            ("metadata.version", 6, 2, "metadata.version can be 7 to 30, not 6."),
            ("nonsense", 1, 1, "nonsense is not a feature of this broker."),
        ];
        for (name, level, way, expected) in table {
            assert_eq!(told(name, level, way), expected, "{name} {level} {way}");
        }
    }

    #[test]
    fn clients_before_version_4_see_no_range_from_zero() {
        let dir = tempfile::tempdir().unwrap();
        let features = Features::open(&Journal::open(&dir.path().join("journal")).unwrap()).unwrap();
        let names = |version| {
            let response = features.show(ApiVersionsResponse::default(), version);
            response.supported_features.iter().map(|of| of.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(3), ["metadata.version"]);
        assert_eq!(names(4).len(), FEATURES.len());
        let response = features.show(ApiVersionsResponse::default(), 3);
        let finalized: Vec<_> = response.finalized_features.iter().map(|of| (of.name.as_str(), of.max_version_level)).collect();
        let expected =
            [("eligible.leader.replicas.version", 1), ("group.version", 1), ("metadata.version", 30), (TRANSACTIONS, 2)];
        assert_eq!(finalized, expected);
    }
}
