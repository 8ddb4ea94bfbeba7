//! A client's settings: only those that stand here are ever given to the library, with the values that mesh needs.

use std::path::Path;
use std::sync::Arc;

use super::error::{KafkaError, Kind};
use super::native::{self, Fault};
use crate::model::Secret;
use crate::model::environment::{Kafka, Security};

/// What a client is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role<'a> {
    Admin,
    Reader,
    /// Asks what this group has committed.
    Group(&'a str),
    /// The transactional id.
    Writer(&'a str),
}

/// A client, and what to call it in messages.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) native: Arc<native::Client>,
    endpoint: Arc<str>,
}

impl Client {
    /// Makes a client; secrets and files are read now. It connects when it is first asked something.
    pub(super) fn new(kafka: &Kafka, root: &Path, role: Role<'_>) -> Result<Client, KafkaError> {
        const OPERATION: &str = "set up a client";
        let mut settings = common_settings(kafka);
        settings.extend(role_settings(role));
        if let Some(security) = &kafka.security {
            let more = security_settings(security, root);
            settings.extend(more.map_err(|message| KafkaError::local(&kafka.bootstrap, OPERATION, message))?);
        }
        let role = if matches!(role, Role::Reader | Role::Group(_)) { native::Role::Consumer } else { native::Role::Producer };
        let native =
            native::Client::new(role, &settings).map_err(|fault| KafkaError::local(&kafka.bootstrap, OPERATION, fault.text))?;
        Ok(Client { native, endpoint: kafka.bootstrap.as_str().into() })
    }

    /// `fault` in words.
    pub(super) fn error(&self, operation: &str, fault: &Fault) -> KafkaError {
        let seen = self.native.seen();
        let mut error = KafkaError::of(fault, &self.endpoint, operation, seen.failure);
        if seen.unauthorized && error.kind == Kind::Unreachable {
            error.kind = Kind::Unauthorized;
        }
        error
    }

    /// A fault that was found without asking Kafka.
    pub(super) fn local_error(&self, operation: &str, message: impl Into<String>) -> KafkaError {
        KafkaError::local(&self.endpoint, operation, message)
    }
}

type Settings = Vec<(&'static str, String)>;

/// What every client has.
fn common_settings(kafka: &Kafka) -> Settings {
    let mut settings: Settings = vec![("bootstrap.servers", kafka.bootstrap.clone())];
    let fixed = [
        ("client.id", "mesh"),
        ("allow.auto.create.topics", "false"),
        ("socket.timeout.ms", "15000"),
        ("socket.connection.setup.timeout.ms", "5000"),
        ("socket.keepalive.enable", "true"),
        ("reconnect.backoff.max.ms", "1000"),
        ("log.thread.name", "false"),
        // Nothing is told to a broker that was not asked for.
        ("enable.metrics.push", "false"),
    ];
    settings.extend(fixed.map(|(name, value)| (name, value.into())));
    settings
}

/// What a client for one purpose has on top.
fn role_settings(role: Role<'_>) -> Settings {
    let fixed: &[(&str, &str)] = match role {
        Role::Admin => &[],
        Role::Reader => &[
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("isolation.level", "read_committed"),
            ("check.crcs", "true"),
            ("enable.partition.eof", "true"),
            // An offset that is gone is an error to be told, never a silent jump.
            ("auto.offset.reset", "error"),
            ("fetch.wait.max.ms", "100"),
            ("fetch.queue.backoff.ms", "5"),
            // Both hold for each partition, of which a reader may have many.
            ("queued.min.messages", "5000"),
            ("queued.max.messages.kbytes", "2048"),
        ],
        // Committed reading makes it wait for offsets that a transaction is about to commit.
        Role::Group(_) => &[("enable.auto.commit", "false"), ("isolation.level", "read_committed")],
        Role::Writer(_) => &[
            ("enable.idempotence", "true"),
            // As Java's producers partition; else co-partitioned joins miss.
            ("partitioner", "murmur2_random"),
            ("queue.buffering.max.kbytes", "32768"),
            // What a topic takes is the topic's business; a dead letter may be large.
            ("message.max.bytes", "20971520"),
            ("queue.buffering.max.messages", "200000"),
            // More than socket.timeout.ms + 10 s: a request that is given up must not outlive its transaction.
            ("transaction.timeout.ms", "60000"),
            ("message.timeout.ms", "45000"),
            ("linger.ms", "5"),
        ],
    };
    let mut settings: Settings = fixed.iter().map(|(name, value)| (*name, (*value).into())).collect();
    match role {
        Role::Admin | Role::Reader => {}
        Role::Group(id) => settings.push(("group.id", id.into())),
        Role::Writer(id) => settings.push(("transactional.id", id.into())),
    }
    settings
}

/// Encryption and authentication. Errors name the variable or file of a secret, never what is in it.
fn security_settings(security: &Security, root: &Path) -> Result<Settings, String> {
    let mut settings: Settings = Vec::new();
    let protocol = match (security.sasl.is_some(), security.tls) {
        (true, true) => "sasl_ssl",
        (true, false) => "sasl_plaintext",
        (false, true) => "ssl",
        (false, false) => "plaintext",
    };
    settings.push(("security.protocol", protocol.into()));
    if let Some(ca) = &security.ca {
        let path = root.join(ca);
        let path = path.to_str().ok_or_else(|| format!("the path of the certificate authority {} is no UTF-8", ca.display()))?;
        settings.push(("ssl.ca.location", path.into()));
    }
    if let Some(sasl) = &security.sasl {
        settings.push(("sasl.mechanisms", sasl.mechanism.name().into()));
        settings.push(("sasl.username", sasl.username.clone()));
        settings.push(("sasl.password", reveal(&sasl.password, root)?));
    }
    Ok(settings)
}

/// A secret's value, read now.
fn reveal(secret: &Secret, root: &Path) -> Result<String, String> {
    match secret {
        Secret::Env(name) => std::env::var(name).map_err(|error| match error {
            std::env::VarError::NotPresent => format!("the secret's environment variable {name} is not set"),
            std::env::VarError::NotUnicode(_) => format!("the secret's environment variable {name} is no UTF-8"),
        }),
        Secret::File(file) => {
            let text = std::fs::read_to_string(root.join(file))
                .map_err(|error| format!("the secret's file {} can't be read: {}", file.display(), error.kind()))?;
            let text = text.strip_suffix('\n').unwrap_or(&text);
            Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::environment::{Mechanism, Sasl};
    use std::path::PathBuf;

    fn secured(password: Secret) -> Kafka {
        let sasl = Sasl { mechanism: Mechanism::ScramSha512, username: "mesh".into(), password };
        Kafka { bootstrap: "127.0.0.1:9".into(), security: Some(Security { sasl: Some(sasl), tls: true, ca: None }) }
    }

    fn number(settings: &Settings, name: &str) -> i64 {
        settings.iter().find(|(n, _)| *n == name).and_then(|(_, value)| value.parse().ok()).expect(name)
    }

    #[test]
    fn every_setting_is_known_to_the_library() {
        let kafka = Kafka { bootstrap: "127.0.0.1:9".into(), security: None };
        for role in [Role::Admin, Role::Reader, Role::Group("group"), Role::Writer("id")] {
            Client::new(&kafka, Path::new("."), role).map(|_| ()).expect("a client");
        }
    }

    #[test]
    fn a_transaction_outlives_a_request_that_is_given_up() {
        let writer = role_settings(Role::Writer("id"));
        let common = common_settings(&Kafka { bootstrap: "h:1".into(), security: None });
        assert!(number(&writer, "transaction.timeout.ms") > number(&common, "socket.timeout.ms") + 10_000);
        assert!(number(&writer, "message.timeout.ms") <= number(&writer, "transaction.timeout.ms"));
    }

    #[test]
    fn a_secured_client_can_be_made_and_its_secret_is_read_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("password"), "s3cret\n").unwrap();
        assert_eq!(reveal(&Secret::File("password".into()), dir.path()).unwrap(), "s3cret");
        Client::new(&secured(Secret::File("password".into())), dir.path(), Role::Admin).map(|_| ()).unwrap();
    }

    #[test]
    fn a_missing_secret_is_named_and_nothing_is_told_of_the_others() {
        let missing = secured(Secret::File(PathBuf::from("secrets/none")));
        let error = Client::new(&missing, Path::new("/nowhere"), Role::Admin).map(|_| ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "could not set up a client: kafka at 127.0.0.1:9: the secret's file secrets/none can't be read: entity not found"
        );
        let unset = reveal(&Secret::Env("MESH_TEST_NO_SUCH_VARIABLE".into()), Path::new("."));
        assert_eq!(unset.unwrap_err(), "the secret's environment variable MESH_TEST_NO_SUCH_VARIABLE is not set");
    }

    #[test]
    fn a_bad_certificate_authority_is_an_error_at_once() {
        let security = Security { sasl: None, tls: true, ca: Some("no/such/ca.pem".into()) };
        let kafka = Kafka { bootstrap: "127.0.0.1:9".into(), security: Some(security) };
        let error = Client::new(&kafka, Path::new("/nowhere"), Role::Admin).map(|_| ()).unwrap_err();
        assert!(error.message.contains("ssl.ca.location"), "{error}");
    }
}
