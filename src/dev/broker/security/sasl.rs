//! Logging in: SASL with SCRAM-SHA-256, SCRAM-SHA-512 (RFC 5802) and PLAIN (RFC 4616), against the SCRAM users.
//!
//! A client that does not log in is `User:ANONYMOUS`; whether that may do anything is the ACLs' business.

use std::sync::{Arc, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse};
use kafka_protocol::protocol::StrBytes;

use super::scram::{Credential, Mechanism};
use crate::dev::broker::{Broker, Call};

const MECHANISMS: [(&str, Offer); 3] = [
    ("PLAIN", Offer::Plain),
    ("SCRAM-SHA-256", Offer::Scram(Mechanism::Sha256)),
    ("SCRAM-SHA-512", Offer::Scram(Mechanism::Sha512)),
];

#[derive(Debug, Clone, Copy)]
enum Offer {
    Plain,
    Scram(Mechanism),
}

/// How far a connection's login has come.
#[derive(Debug, Default)]
pub struct Login(State);

#[derive(Debug, Default)]
enum State {
    #[default]
    None,
    Chosen(Offer),
    Challenged(Box<Challenge>),
}

/// What the client's proof is checked against.
#[derive(Debug)]
struct Challenge {
    mechanism: Mechanism,
    user: String,
    credential: Credential,
    /// `client-first-message-bare,server-first-message`
    messages: String,
    nonce: String,
    /// The header that the client's last message must repeat.
    header: String,
}

/// Serves `SaslHandshake`.
pub async fn handshake(_: &Arc<Broker>, call: &Call, request: SaslHandshakeRequest) -> SaslHandshakeResponse {
    let mechanisms = MECHANISMS.iter().map(|(name, _)| StrBytes::from_static_str(name)).collect();
    let response = SaslHandshakeResponse::default().with_mechanisms(mechanisms);
    let Some((_, offer)) = MECHANISMS.iter().find(|(name, _)| *name == &*request.mechanism) else {
        return response.with_error_code(ResponseError::UnsupportedSaslMechanism.code());
    };
    call.session.login.lock().unwrap_or_else(PoisonError::into_inner).0 = State::Chosen(*offer);
    response
}

/// Serves `SaslAuthenticate`.
pub async fn authenticate(broker: &Arc<Broker>, call: &Call, request: SaslAuthenticateRequest) -> SaslAuthenticateResponse {
    let mut login = call.session.login.lock().unwrap_or_else(PoisonError::into_inner);
    let response = SaslAuthenticateResponse::default();
    let refuse = |error: ResponseError, reason: &'static str| {
        let reason = Some(StrBytes::from_static_str(reason));
        SaslAuthenticateResponse::default().with_error_code(error.code()).with_error_message(reason)
    };
    let token = &request.auth_bytes;
    match std::mem::take(&mut login.0) {
        State::None => refuse(ResponseError::IllegalSaslState, "no mechanism was agreed on: SaslHandshake comes first"),
        State::Chosen(Offer::Plain) => match plain(broker, token) {
            Some(user) => {
                log_in(call, &user);
                response
            }
            None => refuse(ResponseError::SaslAuthenticationFailed, WRONG),
        },
        State::Chosen(Offer::Scram(mechanism)) => match challenge(broker, mechanism, token) {
            Some((challenge, answer)) => {
                login.0 = State::Challenged(Box::new(challenge));
                response.with_auth_bytes(Bytes::from(answer))
            }
            None => refuse(ResponseError::SaslAuthenticationFailed, WRONG),
        },
        State::Challenged(challenge) => match challenge.verify(token) {
            Some(signature) => {
                log_in(call, &challenge.user);
                response.with_auth_bytes(Bytes::from(format!("v={}", STANDARD.encode(signature))))
            }
            None => refuse(ResponseError::SaslAuthenticationFailed, WRONG),
        },
    }
}

/// Not said which of the two, so that users can't be guessed.
const WRONG: &str = "the user is not known or the password is wrong";

fn log_in(call: &Call, user: &str) {
    *call.session.principal.lock().unwrap_or_else(PoisonError::into_inner) = format!("User:{user}");
}

/// The user of `authzid NUL authcid NUL password`, if the password is right.
fn plain(broker: &Broker, token: &[u8]) -> Option<String> {
    let mut parts = std::str::from_utf8(token).ok()?.split('\0');
    let (_, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let right = |mechanism| {
        let Some(known) = broker.security.scram.credential(user, mechanism) else { return false };
        let salted = salted(mechanism, password.as_bytes(), &known.salt, known.iterations);
        Credential::of(mechanism, known.iterations, &known.salt, &salted) == known
    };
    (right(Mechanism::Sha256) || right(Mechanism::Sha512)).then(|| user.to_owned())
}

/// `Hi` of RFC 5802.
fn salted(mechanism: Mechanism, password: &[u8], salt: &[u8], iterations: i32) -> Vec<u8> {
    let mut last = mechanism.hmac(password, &[salt, &[0, 0, 0, 1]].concat());
    let mut all = last.clone();
    for _ in 1..iterations {
        last = mechanism.hmac(password, &last);
        all.iter_mut().zip(&last).for_each(|(all, last)| *all ^= last);
    }
    all
}

/// Reads the client's first message; what it is challenged with.
fn challenge(broker: &Broker, mechanism: Mechanism, token: &[u8]) -> Option<(Challenge, String)> {
    let text = std::str::from_utf8(token).ok()?;
    // gs2-cbind-flag , authzid , bare message; channel binding is not offered.
    let (flag, rest) = text.split_once(',')?;
    let (_, bare) = rest.split_once(',')?;
    if !["n", "y"].contains(&flag) {
        return None;
    }
    let user = attribute(bare, "n=")?.replace("=2C", ",").replace("=3D", "=");
    let credential = broker.security.scram.credential(&user, mechanism)?;
    let nonce = format!("{}{}", attribute(bare, "r=")?, uuid::Uuid::new_v4().simple());
    let first = format!("r={nonce},s={},i={}", STANDARD.encode(&credential.salt), credential.iterations);
    let header = text.strip_suffix(bare)?.to_owned();
    let messages = format!("{bare},{first}");
    Some((Challenge { mechanism, user, credential, messages, nonce, header }, first))
}

fn attribute<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message.split(',').find_map(|part| part.strip_prefix(name))
}

impl Challenge {
    /// Checks the client's proof; the signature by which the client knows the server.
    fn verify(&self, token: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(token).ok()?;
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let repeated = STANDARD.decode(attribute(without_proof, "c=")?).ok()?;
        if repeated != self.header.as_bytes() || attribute(without_proof, "r=")? != self.nonce {
            return None;
        }
        let messages = format!("{},{without_proof}", self.messages);
        let signature = self.mechanism.hmac(&self.credential.stored_key, messages.as_bytes());
        let proof = STANDARD.decode(proof).ok()?;
        if proof.len() != signature.len() {
            return None;
        }
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(proof, signature)| proof ^ signature).collect();
        let right = self.mechanism.hash(&client_key) == self.credential.stored_key;
        right.then(|| self.mechanism.hmac(&self.credential.server_key, messages.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677, section 3: user `user`, password `pencil`.
    #[test]
    fn the_specifications_example_is_verified() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let salted = salted(Mechanism::Sha256, b"pencil", &salt, 4096);
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let challenge = |nonce: &str| Challenge {
            mechanism: Mechanism::Sha256,
            user: "user".into(),
            credential: Credential::of(Mechanism::Sha256, 4096, &salt, &salted),
            messages: format!("n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"),
            nonce: nonce.into(),
            header: "n,,".into(),
        };
        let last = format!("c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        let signature = challenge(nonce).verify(last.as_bytes()).expect("the proof is right");
        assert_eq!(STANDARD.encode(signature), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!(challenge(nonce).verify(last.replace("dHz", "dHy").as_bytes()), None);
        assert_eq!(challenge("other").verify(last.as_bytes()), None);
    }
}
