//! The calls, one method each.

use std::path::Path;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Url};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::error::{Kind, RegistryError};
use crate::model::Secret;
use crate::model::environment;
use crate::model::product::{Compatibility, Format};
use crate::schema::{self, Written};

/// How long one call may take, repetitions included.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(6);
/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(3);
/// How many calls are under way at once.
const CONCURRENT: usize = 12;
/// The longest answer that is read, in bytes.
const LONGEST: usize = 16 << 20;
/// How deep references of references are followed.
const DEEPEST: usize = 32;
/// How many of them are read for one schema.
const MOST_REFERENCES: usize = 500;

/// A client of one registry.
#[derive(Debug)]
pub struct Registry {
    http: Client,
    base: Url,
    /// The base URL as it is shown.
    endpoint: String,
    basic: Option<(String, String)>,
    permits: Semaphore,
}

/// One version of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub version: i32,
    pub schema: Schema,
}

/// A registered schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    pub id: i32,
    pub format: Format,
    pub text: String,
    pub references: Vec<Reference>,
}

/// A schema that another refers to, by the name it uses for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub name: String,
    pub subject: String,
    pub version: i32,
}

/// Where a schema is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lookup {
    pub id: i32,
    pub version: i32,
}

impl Registry {
    /// A client for `config`; secrets are resolved now, files relative to `root`. Nothing is sent yet.
    pub fn connect(config: &environment::Registry, root: &Path) -> Result<Registry, RegistryError> {
        let setup = |endpoint: &str, message: String| RegistryError {
            endpoint: endpoint.to_owned(),
            operation: "set up the client".into(),
            kind: Kind::Setup,
            message,
            retry_after: None,
        };
        let mut base = Url::parse(&config.url)
            .map_err(|error| setup("(unreadable address)", format!("its address is not a URL: {error}")))?;
        let mut basic = url_credentials(&mut base);
        let endpoint = base.as_str().trim_end_matches('/').to_owned();
        if base.cannot_be_a_base() || !matches!(base.scheme(), "http" | "https") {
            return Err(setup(&endpoint, "its address must start with http:// or https://".into()));
        }
        if let Some(declared) = &config.basic {
            let password = resolve(&declared.password, root).map_err(|message| setup(&endpoint, message))?;
            basic = Some((declared.username.clone(), password));
        }
        // Where a redirect is followed, a POST becomes a GET.
        let client = Client::builder()
            .connect_timeout(CONNECT)
            .timeout(ATTEMPT)
            .redirect(Policy::none())
            .user_agent(concat!("mesh/", env!("CARGO_PKG_VERSION")));
        let http = client.build().map_err(|error| setup(&endpoint, error.without_url().to_string()))?;
        Ok(Registry { http, base, endpoint, basic, permits: Semaphore::new(CONCURRENT) })
    }

    /// The base URL without credentials.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The numbers of a subject's versions, ascending; none if it does not exist.
    pub async fn versions(&self, subject: &str) -> Result<Vec<i32>, RegistryError> {
        let call = Call::get(format!("list the versions of subject {subject}"), &["subjects", subject, "versions"]);
        let Some(answer) = self.ask(&call).await? else { return Ok(Vec::new()) };
        let numbers = answer.as_array().and_then(|all| all.iter().map(int).collect::<Option<Vec<i32>>>());
        let mut numbers = numbers.ok_or_else(|| self.malformed(&call, "a list of versions"))?;
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A subject's latest version; `None` if it does not exist.
    pub async fn latest(&self, subject: &str) -> Result<Option<Version>, RegistryError> {
        self.read_version(subject, "latest").await
    }

    /// One version of a subject; `None` if it does not exist.
    pub async fn version(&self, subject: &str, version: i32) -> Result<Option<Version>, RegistryError> {
        self.read_version(subject, &version.to_string()).await
    }

    async fn read_version(&self, subject: &str, version: &str) -> Result<Option<Version>, RegistryError> {
        let call = Call::get(format!("read version {version} of subject {subject}"), &["subjects", subject, "versions", version]);
        let Some(answer) = self.ask(&call).await? else { return Ok(None) };
        let number = answer.get("version").and_then(int).ok_or_else(|| self.malformed(&call, "a version number"))?;
        let id = answer.get("id").and_then(int).ok_or_else(|| self.malformed(&call, "a schema id"))?;
        let (format, text, references) = self.schema(&call, &answer)?;
        Ok(Some(Version { version: number, schema: Schema { id, format, text, references } }))
    }

    /// A schema by its id; `None` if there is none.
    pub async fn by_id(&self, id: i32) -> Result<Option<Written>, RegistryError> {
        self.written(&Call::get(format!("read schema {id}"), &["schemas", "ids", &id.to_string()])).await
    }

    /// A schema by its GUID, which newer serializers write into a header; `None` if there is none.
    pub async fn by_guid(&self, guid: &str) -> Result<Option<Written>, RegistryError> {
        self.written(&Call::get(format!("read schema {guid}"), &["schemas", "guids", guid])).await
    }

    async fn written(&self, call: &Call) -> Result<Option<Written>, RegistryError> {
        let Some(answer) = self.ask(call).await? else { return Ok(None) };
        let (_, text, references) = self.schema(call, &answer)?;
        Ok(Some(Written { text, references: self.resolve(&references).await? }))
    }

    /// The subjects that have a schema, by its id; `None` where the registry does not tell.
    pub async fn subjects_of(&self, id: i32) -> Result<Option<Vec<String>>, RegistryError> {
        let call = Call::get(format!("read the subjects of schema {id}"), &["schemas", "ids", &id.to_string(), "subjects"]);
        let Some(answer) = self.ask(&call).await? else { return Ok(None) };
        let subjects = answer.as_array().ok_or_else(|| self.malformed(&call, "a list of subjects"))?;
        Ok(Some(subjects.iter().filter_map(Value::as_str).map(str::to_owned).collect()))
    }

    /// The texts of all that `references` lead to.
    pub async fn resolve(&self, references: &[Reference]) -> Result<Vec<schema::Reference>, RegistryError> {
        let mut asked = 0;
        self.resolve_below(references, 0, &mut asked).await
    }

    async fn resolve_below(
        &self,
        references: &[Reference],
        depth: usize,
        asked: &mut usize,
    ) -> Result<Vec<schema::Reference>, RegistryError> {
        let mut resolved = Vec::new();
        for reference in references {
            let call = Call::get(format!("read reference {} of subject {}", reference.name, reference.subject), &[]);
            *asked += 1;
            if depth > DEEPEST || *asked > MOST_REFERENCES {
                return Err(self.error(&call, Kind::Refused(0), "it refers to too many schemas, or to itself".into()));
            }
            let Some(version) = self.version(&reference.subject, reference.version).await? else {
                return Err(self.error(&call, Kind::Refused(40402), format!("version {} does not exist", reference.version)));
            };
            let below = Box::pin(self.resolve_below(&version.schema.references, depth + 1, asked)).await?;
            let name = reference.name.clone();
            resolved.push(schema::Reference { name, text: version.schema.text, references: below });
        }
        Ok(resolved)
    }

    /// Where `text` is registered under a subject; `None` if it is not.
    pub async fn lookup(&self, subject: &str, format: Format, text: &str) -> Result<Option<Lookup>, RegistryError> {
        let call = Call::post(format!("look a schema up in subject {subject}"), &["subjects", subject], body(format, text));
        let Some(answer) = self.ask(&call).await? else { return Ok(None) };
        let found = answer.get("id").and_then(int).zip(answer.get("version").and_then(int));
        let (id, version) = found.ok_or_else(|| self.malformed(&call, "an id and a version"))?;
        Ok(Some(Lookup { id, version }))
    }

    /// Registers a schema under a subject and gives its id; the id it has if it is there already.
    pub async fn register(&self, subject: &str, format: Format, text: &str) -> Result<i32, RegistryError> {
        let operation = format!("register a schema under subject {subject}");
        let call = Call::post(operation, &["subjects", subject, "versions"], body(format, text));
        let answer = self.ask(&call).await?;
        answer.and_then(|answer| int(answer.get("id")?)).ok_or_else(|| self.malformed(&call, "a schema id"))
    }

    /// The level that holds for a subject, its own or the global one; the global one without a subject. `None` where
    /// the registry does not tell.
    pub async fn compatibility(&self, subject: Option<&str>) -> Result<Option<Compatibility>, RegistryError> {
        let call = match subject {
            Some(subject) => Call::get(format!("read the compatibility level of subject {subject}"), &["config", subject]),
            None => Call::get("read the global compatibility level".into(), &["config"]),
        };
        let Some(answer) = self.ask(&call).await? else { return Ok(None) };
        let level = answer.get("compatibilityLevel").or_else(|| answer.get("compatibility"));
        let Some(level) = level.and_then(Value::as_str) else { return Err(self.malformed(&call, "a compatibility level")) };
        level.parse().map(Some).map_err(|message| self.error(&call, Kind::Malformed, message))
    }

    /// Sets a subject's own level.
    pub async fn set_compatibility(&self, subject: &str, level: Compatibility) -> Result<(), RegistryError> {
        let operation = format!("set the compatibility level of subject {subject}");
        let call =
            Call { method: Method::PUT, ..Call::post(operation, &["config", subject], json!({"compatibility": level.name()})) };
        match self.ask(&call).await? {
            Some(_) => Ok(()),
            None => Err(self.error(&call, Kind::Refused(404), "the registry does not know the subject".into())),
        }
    }

    /// Deletes a subject, so that its ids stay readable; what is not there is deleted already.
    pub async fn delete_subject(&self, subject: &str) -> Result<(), RegistryError> {
        let call = Call { method: Method::DELETE, ..Call::get(format!("delete subject {subject}"), &["subjects", subject]) };
        match self.ask(&call).await {
            Ok(_) | Err(RegistryError { kind: Kind::Refused(40401 | 40404 | 40406), .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn schema(&self, call: &Call, answer: &Value) -> Result<(Format, String, Vec<Reference>), RegistryError> {
        let text = answer.get("schema").and_then(Value::as_str).ok_or_else(|| self.malformed(call, "a schema"))?;
        let format = match answer.get("schemaType").and_then(Value::as_str) {
            None | Some("AVRO") => Format::Avro,
            Some("JSON") => Format::Json,
            Some("PROTOBUF") => Format::Protobuf,
            Some(other) => return Err(self.error(call, Kind::Malformed, format!("unknown schemaType {}", clip(other)))),
        };
        let references = answer.get("references").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let references: Option<Vec<Reference>> = references.iter().map(reference).collect();
        let references = references.ok_or_else(|| self.malformed(call, "references"))?;
        Ok((format, text.to_owned(), references))
    }

    /// One call, repeated while that may help; `None` for what does not exist.
    async fn ask(&self, call: &Call) -> Result<Option<Value>, RegistryError> {
        let Ok(_permit) = self.permits.acquire().await else {
            return Err(self.error(call, Kind::Setup, "the client was closed".into()));
        };
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(2))
            .with_max_times(5)
            .with_jitter();
        let asked = (|| self.attempt(call)).retry(backoff).when(RegistryError::is_passing).adjust(|error, planned| {
            let wished = error.retry_after.map(Duration::from_secs);
            planned.map(|planned| wished.map_or(planned, |wished| planned.max(wished)))
        });
        match tokio::time::timeout(DEADLINE, asked).await {
            Ok(answer) => answer,
            Err(_) => {
                let message = format!("no answer within {} seconds", DEADLINE.as_secs());
                Err(self.error(call, Kind::Unreachable, message))
            }
        }
    }

    async fn attempt(&self, call: &Call) -> Result<Option<Value>, RegistryError> {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(&call.path);
        }
        let accept = "application/vnd.schemaregistry.v1+json, application/json;q=0.9";
        let mut request = self.http.request(call.method.clone(), url).header("Accept", accept);
        if let Some((user, password)) = &self.basic {
            request = request.basic_auth(user, Some(password));
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let mut response = request.send().await.map_err(|error| self.transport(call, error))?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").and_then(|v| v.to_str().ok()?.trim().parse().ok());
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.cut_off(call, error))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LONGEST {
                return Err(self.error(call, Kind::Malformed, format!("its answer is longer than {LONGEST} bytes")));
            }
        }
        let answer = serde_json::from_slice(&bytes).ok();
        self.read(call, status, retry_after, answer, &bytes)
    }

    fn read(
        &self,
        call: &Call,
        status: u16,
        retry_after: Option<u64>,
        answer: Option<Value>,
        bytes: &[u8],
    ) -> Result<Option<Value>, RegistryError> {
        let code = answer.as_ref().and_then(|answer| answer.get("error_code")?.as_i64());
        let said = answer.as_ref().and_then(|answer| answer.get("message")?.as_str()).map(clip);
        let error = |kind, message: String| Err(RegistryError { retry_after, ..self.error(call, kind, message) });
        match (status, code) {
            (200..=299, _) => match answer {
                Some(answer) => Ok(Some(answer)),
                None if bytes.is_empty() && call.method == Method::DELETE => Ok(Some(Value::Null)),
                None => error(Kind::Malformed, format!("it answered with {}", looks_like(bytes))),
            },
            (300..=399, _) => {
                let message = format!("it sends to another address (HTTP {status}); its URL must be the one where it answers");
                error(Kind::Malformed, message)
            }
            (401 | 403, _) => error(Kind::Unauthorised, format!("not authorised (HTTP {status})")),
            // Unknown subject, version, schema; no level of its own.
            (404, Some(40401..=40403 | 40408)) => Ok(None),
            (404, _) => {
                let message = "there is no schema registry under this address (HTTP 404); its URL may need a path".to_owned();
                error(Kind::Malformed, message)
            }
            (408 | 429 | 500..=599, _) => {
                let said = said.map(|said| format!(": {said}")).unwrap_or_default();
                error(Kind::Unavailable(status), format!("it answered with HTTP {status}{said}"))
            }
            _ => {
                let said = said.unwrap_or_else(|| looks_like(bytes).into());
                error(Kind::Refused(code.unwrap_or(i64::from(status))), format!("it refused (HTTP {status}): {said}"))
            }
        }
    }

    fn transport(&self, call: &Call, error: reqwest::Error) -> RegistryError {
        let message = if error.is_timeout() {
            "no answer in time".to_owned()
        } else if error.is_connect() {
            format!("nobody answers there: {}", innermost(&error))
        } else {
            innermost(&error)
        };
        self.error(call, Kind::Unreachable, message)
    }

    fn cut_off(&self, call: &Call, error: reqwest::Error) -> RegistryError {
        self.error(call, Kind::Unreachable, format!("its answer was cut off: {}", innermost(&error)))
    }

    fn malformed(&self, call: &Call, wanted: &str) -> RegistryError {
        self.error(call, Kind::Malformed, format!("its answer lacks {wanted}"))
    }

    fn error(&self, call: &Call, kind: Kind, message: String) -> RegistryError {
        RegistryError { endpoint: self.endpoint.clone(), operation: call.operation.clone(), kind, message, retry_after: None }
    }
}

/// One request.
#[derive(Debug, Clone)]
struct Call {
    operation: String,
    method: Method,
    path: Vec<String>,
    body: Option<Value>,
}

impl Call {
    fn get(operation: String, path: &[&str]) -> Call {
        Call { operation, method: Method::GET, path: path.iter().map(|part| (*part).to_owned()).collect(), body: None }
    }

    fn post(operation: String, path: &[&str], body: Value) -> Call {
        Call { method: Method::POST, body: Some(body), ..Call::get(operation, path) }
    }
}

fn body(format: Format, text: &str) -> Value {
    json!({"schema": text, "schemaType": format.registry_name()})
}

fn int(value: &Value) -> Option<i32> {
    value.as_i64().and_then(|n| i32::try_from(n).ok())
}

fn reference(value: &Value) -> Option<Reference> {
    let text = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    Some(Reference { name: text("name")?, subject: text("subject")?, version: int(value.get("version")?)? })
}

/// What an answer that is not JSON seems to be; its content is not repeated.
fn looks_like(bytes: &[u8]) -> &'static str {
    let start = bytes.iter().position(|b| !b.is_ascii_whitespace()).map_or(&[][..], |at| &bytes[at..]);
    match start.first() {
        None => "nothing",
        Some(b'<') => "HTML, not JSON: is this a schema registry?",
        Some(b'{' | b'[') => "JSON that is broken off",
        Some(_) => "something that is not JSON",
    }
}

fn clip(text: &str) -> String {
    let first: String = text.chars().take(400).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if first.len() < text.len() && text.chars().count() > 400 { format!("{first}..") } else { first }
}

/// The cause at the bottom; those above it repeat the URL.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Takes user and password out of a URL, so that it can be shown.
fn url_credentials(url: &mut Url) -> Option<(String, String)> {
    let user = url.username().to_owned();
    let password = url.password().unwrap_or_default().to_owned();
    // Both fail only for URLs without a host, which have no credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    (!user.is_empty()).then_some((user, password))
}

fn resolve(secret: &Secret, root: &Path) -> Result<String, String> {
    match secret {
        Secret::Env(name) => std::env::var(name).map_err(|_| format!("environment variable {name} is not set")),
        Secret::File(path) => {
            let text = std::fs::read_to_string(root.join(path));
            let text = text.map_err(|error| format!("can't read the secret's file {}: {}", path.display(), error.kind()))?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    /// A server that gives these answers (status line and headers, body), one to a connection, and tells what it was asked.
    fn server(answers: Vec<(&'static str, &'static str)>) -> (String, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, questions) = mpsc::channel();
        std::thread::spawn(move || {
            for (head, body) in answers {
                let (stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream);
                let mut head_lines = String::new();
                while !head_lines.ends_with("\r\n\r\n") && reader.read_line(&mut head_lines).unwrap() > 0 {}
                let length =
                    head_lines.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
                let mut sent = vec![0; length.unwrap_or(0)];
                reader.read_exact(&mut sent).unwrap();
                let _ = asked.send(format!("{head_lines}{}", String::from_utf8(sent).unwrap()));
                let answer = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
                let _ = reader.into_inner().write_all(answer.as_bytes());
            }
        });
        (url, questions)
    }

    fn client(url: &str) -> Registry {
        Registry::connect(&environment::Registry { url: url.into(), basic: None }, Path::new(".")).unwrap()
    }

    async fn latest_error(head: &'static str, body: &'static str, times: usize) -> String {
        let (url, _questions) = server(vec![(head, body); times]);
        let error = client(&url).latest("orders-value").await.unwrap_err();
        error.to_string().replace(&url, "URL")
    }

    #[tokio::test]
    async fn a_subject_is_asked_for_below_a_path_and_escaped() {
        let answer = r#"{"subject":"a","version":3,"id":7,"schemaType":"JSON","schema":"{}","references":[{"name":"n","subject":"s","version":1}]}"#;
        let (url, questions) = server(vec![("200 OK", answer)]);
        let version = client(&format!("{url}/apis/ccompat/v7/")).latest("a/b c").await.unwrap().unwrap();
        assert!(questions.recv().unwrap().starts_with("GET /apis/ccompat/v7/subjects/a%2Fb%20c/versions/latest HTTP/1.1"));
        assert_eq!((version.version, version.schema.id, version.schema.format), (3, 7, Format::Json));
        assert_eq!(version.schema.references, [Reference { name: "n".into(), subject: "s".into(), version: 1 }]);
    }

    #[tokio::test]
    async fn what_is_not_there_is_none() {
        let (url, _q) = server(vec![
            ("404 Not Found", r#"{"error_code":40401,"message":"Subject not found"}"#),
            ("404 Not Found", r#"{"error_code":40408,"message":"no level"}"#),
            ("200 OK", r#"{"compatibilityLevel":"FULL_TRANSITIVE"}"#),
        ]);
        let registry = client(&url);
        assert_eq!(registry.latest("x").await.unwrap(), None);
        assert_eq!(registry.compatibility(Some("x")).await.unwrap(), None);
        assert_eq!(registry.compatibility(None).await.unwrap(), Some(Compatibility::FullTransitive));
    }

    #[tokio::test]
    async fn answers_that_are_no_registrys_are_errors() {
        insta::assert_snapshot!(latest_error("200 OK", "<html>secret</html>", 1).await, @"registry URL: could not read version latest of subject orders-value: it answered with HTML, not JSON: is this a schema registry?");
        insta::assert_snapshot!(latest_error("200 OK", "{\"version\": 1, \"sch", 1).await, @"registry URL: could not read version latest of subject orders-value: it answered with JSON that is broken off");
        insta::assert_snapshot!(latest_error("200 OK", "{\"version\": 1}", 1).await, @"registry URL: could not read version latest of subject orders-value: its answer lacks a schema id");
        insta::assert_snapshot!(latest_error("404 Not Found", "not here", 1).await, @"registry URL: could not read version latest of subject orders-value: there is no schema registry under this address (HTTP 404); its URL may need a path");
        insta::assert_snapshot!(latest_error("301 Moved\r\nLocation: /", "", 1).await, @"registry URL: could not read version latest of subject orders-value: it sends to another address (HTTP 301); its URL must be the one where it answers");
        insta::assert_snapshot!(latest_error("401 Unauthorized", "{}", 1).await, @"registry URL: could not read version latest of subject orders-value: not authorised (HTTP 401)");
        insta::assert_snapshot!(latest_error("422 X", r#"{"error_code":42201,"message":"bad schema"}"#, 1).await, @"registry URL: could not read version latest of subject orders-value: it refused (HTTP 422): bad schema");
    }

    #[tokio::test]
    async fn a_passing_failure_is_repeated_and_retry_after_honoured() {
        let (url, _q) =
            server(vec![("503 X", "busy"), ("429 X\r\nRetry-After: 1", "{}"), ("200 OK", r#"{"compatibilityLevel":"NONE"}"#)]);
        let began = Instant::now();
        assert_eq!(client(&url).compatibility(None).await.unwrap(), Some(Compatibility::None));
        assert!(began.elapsed() >= Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_lasting_failure_ends() {
        insta::assert_snapshot!(latest_error("500 X", r#"{"error_code":50001,"message":"store is down"}"#, 6).await, @"registry URL: could not read version latest of subject orders-value: it answered with HTTP 500: store is down");
    }

    #[tokio::test]
    async fn nobody_there_is_told_in_time_without_credentials() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let began = Instant::now();
        let error = client(&format!("http://anna:geheim@127.0.0.1:{port}/api")).versions("x").await.unwrap_err();
        assert_eq!(error.kind, Kind::Unreachable);
        assert_eq!(error.endpoint, format!("http://127.0.0.1:{port}/api"));
        assert!(!error.to_string().contains("geheim"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(12));
    }

    #[tokio::test]
    async fn references_of_references_are_resolved() {
        let (url, _q) = server(vec![
            ("200 OK", r#"{"version":1,"id":1,"schema":"A","references":[{"name":"b","subject":"s","version":1}]}"#),
            ("200 OK", r#"{"version":1,"id":2,"schema":"B"}"#),
            ("404 X", r#"{"error_code":40402}"#),
        ]);
        let a = Reference { name: "a".into(), subject: "a".into(), version: 1 };
        let registry = client(&url);
        let resolved = registry.resolve(std::slice::from_ref(&a)).await.unwrap();
        assert_eq!((resolved[0].text.as_str(), resolved[0].references[0].text.as_str()), ("A", "B"));
        let error = registry.resolve(&[a]).await.unwrap_err();
        assert_eq!(
            error.to_string().replace(&url, "URL"),
            "registry URL: could not read reference a of subject a: version 1 does not exist"
        );
    }

    #[tokio::test]
    async fn a_password_is_looked_up_when_connecting() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pw"), "s3cret\n").unwrap();
        let (url, questions) = server(vec![("200 OK", r#"{"id":5}"#)]);
        let basic = environment::Basic { username: "mesh".into(), password: Secret::File("pw".into()) };
        let config = environment::Registry { url: url.clone(), basic: Some(basic) };
        let registry = Registry::connect(&config, folder.path()).unwrap();
        assert_eq!(registry.register("s", Format::Avro, "\"string\"").await.unwrap(), 5);
        assert!(questions.recv().unwrap().to_lowercase().contains("authorization: basic bwvzadpzm2nyzxq="));
        let missing = environment::Basic { username: "mesh".into(), password: Secret::File("none".into()) };
        let error = Registry::connect(&environment::Registry { url, basic: Some(missing) }, folder.path()).unwrap_err();
        assert_eq!(error.message, "can't read the secret's file none: entity not found");
    }
}
