//! SCRAM users (KIP-554): stored as salted keys, never as passwords.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hmac::{Hmac, Mac};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_user_scram_credentials_request::{ScramCredentialDeletion, ScramCredentialUpsertion};
use kafka_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use kafka_protocol::messages::describe_user_scram_credentials_response::{CredentialInfo, DescribeUserScramCredentialsResult};
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
};
use kafka_protocol::protocol::StrBytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};

use crate::dev::broker::journal::{Change, Journal, Kind};
use crate::dev::broker::{Broker, Call};

/// The hash of a SCRAM mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Mechanism {
    Sha256,
    Sha512,
}

impl Mechanism {
    fn from_number(number: i8) -> Option<Mechanism> {
        match number {
            1 => Some(Mechanism::Sha256),
            2 => Some(Mechanism::Sha512),
            _ => None,
        }
    }

    fn number(self) -> i8 {
        match self {
            Mechanism::Sha256 => 1,
            Mechanism::Sha512 => 2,
        }
    }

    pub(super) fn hash(self, data: &[u8]) -> Vec<u8> {
        match self {
            Mechanism::Sha256 => Sha256::digest(data).to_vec(),
            Mechanism::Sha512 => Sha512::digest(data).to_vec(),
        }
    }

    /// HMAC takes a key of any length, so this has a value always; empty is what no proof equals.
    pub(super) fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        fn mac<M: Mac + hmac::digest::KeyInit>(key: &[u8], data: &[u8]) -> Vec<u8> {
            <M as Mac>::new_from_slice(key).map(|mac| mac.chain_update(data).finalize().into_bytes().to_vec()).unwrap_or_default()
        }
        match self {
            Mechanism::Sha256 => mac::<Hmac<Sha256>>(key, data),
            Mechanism::Sha512 => mac::<Hmac<Sha512>>(key, data),
        }
    }
}

/// What is kept of a password (RFC 5802).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    pub(super) iterations: i32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: Vec<u8>,
    pub(super) server_key: Vec<u8>,
}

impl Credential {
    pub(super) fn of(mechanism: Mechanism, iterations: i32, salt: &[u8], salted_password: &[u8]) -> Credential {
        let client_key = mechanism.hmac(salted_password, b"Client Key");
        Credential {
            iterations,
            salt: salt.to_vec(),
            stored_key: mechanism.hash(&client_key),
            server_key: mechanism.hmac(salted_password, b"Server Key"),
        }
    }
}

/// One user's credentials.
type Credentials = BTreeMap<Mechanism, Credential>;

/// All users.
#[derive(Debug)]
pub struct Users(RwLock<BTreeMap<String, Credentials>>);

impl Users {
    pub(super) fn open(journal: &Journal) -> io::Result<Users> {
        Ok(Users(RwLock::new(journal.read(Kind::ScramUser)?.into_iter().collect())))
    }

    /// A user's credential for a mechanism.
    pub(super) fn credential(&self, user: &str, mechanism: Mechanism) -> Option<Credential> {
        self.read().get(user)?.get(&mechanism).cloned()
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Credentials>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Credentials>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves `DescribeUserScramCredentials`: all users, or those named.
pub async fn describe(
    broker: &Arc<Broker>,
    _: &Call,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let users = broker.security.scram.read();
    let named = request.users.filter(|named| !named.is_empty());
    let names: Vec<String> = match named {
        None => users.keys().cloned().collect(),
        Some(named) => named.iter().map(|user| user.name.to_string()).collect(),
    };
    let result = |name: &String| {
        let result = DescribeUserScramCredentialsResult::default().with_user(StrBytes::from_string(name.clone()));
        if names.iter().filter(|other| *other == name).count() > 1 {
            return (result.with_error_code(ResponseError::DuplicateResource.code()))
                .with_error_message(Some(StrBytes::from_static_str("the user is named more than once")));
        }
        let Some(credentials) = users.get(name) else {
            return (result.with_error_code(ResponseError::ResourceNotFound.code()))
                .with_error_message(Some(StrBytes::from_static_str("no SCRAM user has this name")));
        };
        let info = |(mechanism, credential): (&Mechanism, &Credential)| {
            CredentialInfo::default().with_mechanism(mechanism.number()).with_iterations(credential.iterations)
        };
        result.with_credential_infos(credentials.iter().map(info).collect())
    };
    let unique: BTreeSet<&String> = names.iter().collect();
    DescribeUserScramCredentialsResponse::default().with_results(unique.into_iter().map(result).collect())
}

/// Serves `AlterUserScramCredentials`: a user's changes are made when all of them are right.
pub async fn alter(
    broker: &Arc<Broker>,
    _: &Call,
    request: AlterUserScramCredentialsRequest,
) -> AlterUserScramCredentialsResponse {
    let mut users = broker.security.scram.write();
    let deleted = request.deletions.iter().map(|deletion| deletion.name.to_string());
    let upserted = request.upsertions.iter().map(|upsertion| upsertion.name.to_string());
    let names: BTreeSet<String> = deleted.chain(upserted).collect();
    let mut results = Vec::new();
    for name in names {
        let result = AlterUserScramCredentialsResult::default().with_user(StrBytes::from_string(name.clone()));
        let altered = altered(&name, users.get(&name).cloned().unwrap_or_default(), &request)
            .and_then(|credentials| keep(broker, &mut users, &name, credentials));
        results.push(match altered {
            Ok(()) => result,
            Err((error, reason)) => result.with_error_code(error.code()).with_error_message(Some(StrBytes::from_string(reason))),
        });
    }
    AlterUserScramCredentialsResponse::default().with_results(results)
}

type Refusal = (ResponseError, String);

fn keep(broker: &Broker, users: &mut BTreeMap<String, Credentials>, name: &str, credentials: Credentials) -> Result<(), Refusal> {
    let change = match credentials.is_empty() {
        true => Ok(Change::remove(Kind::ScramUser, name)),
        false => Change::put(Kind::ScramUser, name, &credentials),
    };
    let written = change.and_then(|change| broker.journal.write(&[change]));
    written.map_err(|error| (ResponseError::KafkaStorageError, error.to_string()))?;
    if credentials.is_empty() {
        users.remove(name);
    } else {
        users.insert(name.to_owned(), credentials);
    }
    Ok(())
}

/// A user's credentials after the changes that concern it.
fn altered(name: &str, mut credentials: Credentials, request: &AlterUserScramCredentialsRequest) -> Result<Credentials, Refusal> {
    let deletions: Vec<&ScramCredentialDeletion> = request.deletions.iter().filter(|of| &*of.name == name).collect();
    let upsertions: Vec<&ScramCredentialUpsertion> = request.upsertions.iter().filter(|of| &*of.name == name).collect();
    if name.is_empty() {
        return Err((ResponseError::UnacceptableCredential, "the user name is empty".into()));
    }
    let numbers = deletions.iter().map(|of| of.mechanism).chain(upsertions.iter().map(|of| of.mechanism));
    for number in numbers {
        Mechanism::from_number(number)
            .ok_or_else(|| (ResponseError::UnsupportedSaslMechanism, format!("there is no SCRAM mechanism {number}")))?;
    }
    // As Kafka has it, a request changes one credential of a user, even if the mechanisms differ.
    if deletions.len() + upsertions.len() > 1 {
        return Err((ResponseError::DuplicateResource, "a user is changed more than once".into()));
    }
    for deletion in deletions {
        let known = Mechanism::from_number(deletion.mechanism).and_then(|mechanism| credentials.remove(&mechanism));
        if known.is_none() {
            return Err((ResponseError::ResourceNotFound, "there is no such credential to delete".into()));
        }
    }
    for upsertion in upsertions {
        if !(4096..=16384).contains(&upsertion.iterations) {
            return Err((ResponseError::UnacceptableCredential, "the iterations are not between 4096 and 16384".into()));
        }
        if let Some(mechanism) = Mechanism::from_number(upsertion.mechanism) {
            let of = Credential::of(mechanism, upsertion.iterations, &upsertion.salt, &upsertion.salted_password);
            credentials.insert(mechanism, of);
        }
    }
    Ok(credentials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_credential_of_a_user_is_changed_at_a_time() {
        let upsertion = |name: &'static str, mechanism| {
            let name = StrBytes::from_static_str(name);
            ScramCredentialUpsertion::default().with_name(name).with_mechanism(mechanism).with_iterations(4096)
        };
        let upsertions = vec![upsertion("one", 1), upsertion("two", 1), upsertion("two", 2), upsertion("odd", 3)];
        let request = AlterUserScramCredentialsRequest::default().with_upsertions(upsertions);
        let of = |name| altered(name, Credentials::new(), &request).map(|after| after.len()).map_err(|(error, _)| error);
        assert_eq!(of("one"), Ok(1));
        assert_eq!(of("two"), Err(ResponseError::DuplicateResource));
        assert_eq!(of("odd"), Err(ResponseError::UnsupportedSaslMechanism));
    }
}
