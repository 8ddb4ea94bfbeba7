//! Environment documents to environments: variables replaced, addresses and security checked.

use super::codes;
use super::document::{self, EnvironmentSpec, SecretRef};
use super::product::compatibility;
use super::read::{Declared, Reading};
use super::walk::Rewritten;
use crate::model::environment::{
    Basic, Defaults, Environment, Kafka, Mechanism, Override, Registry, Safety, Sasl, Secret, Security,
};

/// The most that `vars` may be together, as JSON, in bytes.
const MAX_VARS: usize = 64 * 1024;

/// What the process's environment says of `local`'s addresses (`MESH_BOOTSTRAP`, `MESH_REGISTRY`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    pub bootstrap: Option<String>,
    pub registry: Option<String>,
}

/// Looks up an environment variable.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces each `${NAME}` of a text; without `lookup`, a text that has one is unknown.
pub(super) fn expand(text: &str, lookup: Option<Lookup<'_>>) -> Rewritten {
    if !text.contains("${") {
        return Rewritten::Same;
    }
    let Some(lookup) = lookup else { return Rewritten::Unknown };
    let (mut expanded, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("${") {
        expanded.push_str(before);
        let name = after.split_once('}').map(|(name, _)| name);
        let fits = |name: &&str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let Some(name) = name.filter(fits) else {
            let (code, message) = (codes::BAD_VALUE, "a `${` that names no environment variable".to_owned());
            return Rewritten::Refused { code, message, help: "write `${NAME}`, of letters, digits and `_`".into() };
        };
        let Some(value) = lookup(name) else {
            let (code, message) = (codes::VARIABLE_NOT_SET, format!("the environment variable `{name}` is not set"));
            return Rewritten::Refused { code, message, help: format!("set it before starting mesh: export {name}=..") };
        };
        expanded.push_str(&value);
        rest = &after[name.len() + 1..];
    }
    expanded.push_str(rest);
    Rewritten::Text(expanded)
}

impl Reading<'_> {
    /// The environment that a document declares; `None` when it can't be used.
    pub(super) fn resolve_environment(
        &mut self,
        declared: &Declared<'_, EnvironmentSpec>,
        overrides: &Overrides,
    ) -> Option<Environment> {
        let spec = &declared.spec;
        let local = Environment::local();
        let is_local = declared.metadata.name == local.name;
        let kafka = match &spec.kafka {
            Some(kafka) => self.kafka(declared, kafka),
            None if is_local => Some(local.kafka.clone()),
            None => self.address_missing(declared, "kafka.bootstrap"),
        };
        let registry = match &spec.registry {
            Some(registry) => self.registry(declared, registry),
            None if is_local => Some(local.registry.clone()),
            None => self.address_missing(declared, "registry.url"),
        };
        self.check_vars(declared);
        let environment = Environment {
            name: declared.metadata.name.clone(),
            kafka: kafka?,
            registry: registry?,
            defaults: defaults(spec.defaults.as_ref(), local.defaults),
            overrides: spec.overrides.iter().map(override_of).collect(),
            safety: spec.safety.as_ref().map(safety).unwrap_or_default(),
            vars: spec.vars.clone(),
            not_yet: not_yet(spec),
            place: Some(declared.name_place()),
        };
        Some(if is_local { self.override_local(environment, overrides) } else { environment })
    }

    /// `local` with the addresses that the process's environment gives.
    pub(super) fn override_local(&mut self, mut environment: Environment, overrides: &Overrides) -> Environment {
        if let Some(bootstrap) = overrides.bootstrap.as_ref().filter(|value| !value.is_empty()) {
            if !is_bootstrap(bootstrap) {
                let help = "write `host:port`, several separated by commas";
                self.error(codes::BAD_ADDRESS, None, "MESH_BOOTSTRAP is not an address of Kafka".into(), help);
            }
            environment.kafka.bootstrap = bootstrap.clone();
        }
        if let Some(url) = overrides.registry.as_ref().filter(|value| !value.is_empty()) {
            if let Err(help) = check_url(url) {
                self.error(codes::BAD_ADDRESS, None, "MESH_REGISTRY is not an address of a registry".into(), help);
            }
            environment.registry.url = url.trim_end_matches('/').to_owned();
        }
        environment
    }

    fn address_missing<T>(&mut self, declared: &Declared<'_, EnvironmentSpec>, what: &str) -> Option<T> {
        let message = format!("the environment `{}` has no `{what}`", declared.metadata.name);
        self.error(codes::ADDRESS_MISSING, declared.name_place(), message, "only `local` has addresses by default");
        None
    }

    fn kafka(&mut self, declared: &Declared<'_, EnvironmentSpec>, kafka: &document::Kafka) -> Option<Kafka> {
        if !is_bootstrap(&kafka.bootstrap) {
            let message = "`spec.kafka.bootstrap` is not an address of Kafka".into();
            let place = declared.place("/spec/kafka/bootstrap");
            self.error(codes::BAD_ADDRESS, place, message, "write `host:port`, several separated by commas");
        }
        let security = match &kafka.security {
            Some(security) => Some(self.security(declared, security)?),
            None => None,
        };
        Some(Kafka { bootstrap: kafka.bootstrap.clone(), security })
    }

    fn security(&mut self, declared: &Declared<'_, EnvironmentSpec>, security: &document::Security) -> Option<Security> {
        let pointer = "/spec/kafka/security";
        let ca = match &security.ca {
            Some(ca) => Some(self.named(declared, &ca.file, "/spec/kafka/security/ca/file")?.below_root),
            None => None,
        };
        let tls = security.tls.unwrap_or(true);
        let sasl = match (&security.mechanism, &security.username, &security.password) {
            (Some(mechanism), Some(username), Some(password)) => Some(Sasl {
                mechanism: match mechanism {
                    document::Mechanism::Plain => Mechanism::Plain,
                    document::Mechanism::ScramSha256 => Mechanism::ScramSha256,
                    document::Mechanism::ScramSha512 => Mechanism::ScramSha512,
                },
                username: username.clone(),
                password: self.secret(declared, password, &format!("{pointer}/password/file"))?,
            }),
            (None, None, None) if tls => None,
            (None, None, None) => {
                let message = "`spec.kafka.security` has neither SASL nor TLS".into();
                self.error(codes::BAD_SECURITY, declared.place(pointer), message, "leave `security` out for plain text");
                return None;
            }
            _ => {
                let message = "`spec.kafka.security` has only a part of `mechanism`, `username`, `password`".into();
                self.error(codes::BAD_SECURITY, declared.place(pointer), message, "SASL needs all three; TLS alone needs none");
                return None;
            }
        };
        Some(Security { sasl, tls, ca })
    }

    fn registry(&mut self, declared: &Declared<'_, EnvironmentSpec>, registry: &document::Registry) -> Option<Registry> {
        if let Err(help) = check_url(&registry.url) {
            let message = "`spec.registry.url` is not an address of a registry".into();
            let place = declared.place("/spec/registry/url");
            self.error(codes::BAD_ADDRESS, place, message, help);
        }
        let basic = match &registry.basic {
            Some(basic) => Some(Basic {
                username: basic.username.clone(),
                password: self.secret(declared, &basic.password, "/spec/registry/basic/password/file")?,
            }),
            None => None,
        };
        Some(Registry { url: registry.url.trim_end_matches('/').to_owned(), basic })
    }

    /// Where a secret is; it is not looked at now.
    fn secret(&mut self, declared: &Declared<'_, EnvironmentSpec>, secret: &SecretRef, pointer: &str) -> Option<Secret> {
        match (&secret.env, &secret.file) {
            (Some(name), _) => Some(Secret::Env(name.clone())),
            (_, Some(file)) => self.named(declared, file, pointer).map(|named| Secret::File(named.below_root)),
            (None, None) => None,
        }
    }

    fn check_vars(&mut self, declared: &Declared<'_, EnvironmentSpec>) {
        let vars = &declared.spec.vars;
        if vars.contains_key("env") {
            let message = "the variable `env` is taken: templates find the environment's name under `env.name`".into();
            self.error(codes::BAD_VALUE, declared.place("/spec/vars/env"), message, "rename it");
        }
        if vars.values().map(|value| value.to_string().len()).sum::<usize>() > MAX_VARS {
            let message = "`spec.vars` is larger than 64 KiB".into();
            self.error(codes::TOO_LARGE, declared.place("/spec/vars"), message, "keep data out of the manifests");
        }
    }
}

fn defaults(spec: Option<&document::Defaults>, built_in: Defaults) -> Defaults {
    let Some(spec) = spec else { return built_in };
    Defaults {
        partitions: spec.partitions.unwrap_or(built_in.partitions),
        replication: spec.replication.or(built_in.replication),
        compatibility: spec.compatibility.map_or(built_in.compatibility, compatibility),
    }
}

fn override_of(spec: &document::Override) -> Override {
    let matches = spec.matches.clone().unwrap_or_default();
    Override {
        tags: matches.tags,
        names: matches.names,
        partitions: spec.partitions,
        replication: spec.replication,
        config: spec.config.iter().map(|(key, value)| (key.clone(), value.0.clone())).collect(),
    }
}

fn safety(spec: &document::Safety) -> Safety {
    Safety { prune: spec.prune, protect: spec.protect.clone(), cluster_id: spec.cluster_id.clone() }
}

fn not_yet(spec: &EnvironmentSpec) -> Vec<String> {
    let sections = [
        ("catalogs", spec.catalogs.as_ref().is_some_and(|c| !c.is_empty())),
        ("connections", spec.connections.as_ref().is_some_and(|c| !c.is_empty())),
        ("engine", matches!(spec.engine, Some(document::Engine::Flink(_)))),
    ];
    sections.into_iter().filter(|(_, present)| *present).map(|(name, _)| name.to_owned()).collect()
}

/// Whether a text is `host:port`, or several of them.
fn is_bootstrap(text: &str) -> bool {
    text.split(',').all(|server| {
        let Some((host, port)) = server.trim().rsplit_once(':') else { return false };
        let host_fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '[' | ']' | ':');
        !host.is_empty() && host.chars().all(host_fits) && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

/// Whether a text is a base URL; else what it should be. The text is not repeated: it may hold a password.
fn check_url(text: &str) -> Result<(), &'static str> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let rest = rest.ok_or("write `http://host:port` or `https://host`, with a path if it needs one")?;
    let host = rest.split('/').next().unwrap_or_default();
    if rest.contains('@') {
        return Err("a user name and password stand under `basic`, not in the address");
    }
    if host.is_empty() || rest.contains(['?', '#']) || rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("write `http://host:port` or `https://host`, with a path if it needs one, and nothing after it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_or_refused() {
        let lookup = |name: &str| (name == "HOST").then(|| "kafka.example".to_owned());
        let expand = |text: &str| match expand(text, Some(&lookup)) {
            Rewritten::Same => "same".into(),
            Rewritten::Text(text) => text,
            Rewritten::Unknown => "unknown".into(),
            Rewritten::Refused { code, message, help } => format!("{code} {message} / {help}"),
        };
        assert_eq!(expand("plain $HOST"), "same");
        assert_eq!(expand("${HOST}:9092,${HOST}:9093"), "kafka.example:9092,kafka.example:9093");
        assert_eq!(
            expand("${NONE}"),
            "M0502 the environment variable `NONE` is not set / set it before starting mesh: export NONE=.."
        );
        assert_eq!(
            expand("${HOST"),
            "M0107 a `${` that names no environment variable / write `${NAME}`, of letters, digits and `_`"
        );
        assert!(matches!(super::expand("${NONE}", None), Rewritten::Unknown));
    }

    #[test]
    fn addresses() {
        assert!(is_bootstrap("localhost:9092") && is_bootstrap("a:1, [::1]:2"));
        for wrong in ["", "localhost", ":9092", "a:0", "a:x", "a:1,", "http://a:1/", "user@a:1"] {
            assert!(!is_bootstrap(wrong), "{wrong}");
        }
        assert!(check_url("http://host:8080/apis/ccompat/v7").is_ok());
        for wrong in ["host:8081", "http://", "http://u:p@host", "https://host?x=1", "ftp://host"] {
            assert!(check_url(wrong).is_err(), "{wrong}");
        }
    }
}
