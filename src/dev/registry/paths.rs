//! From a request's path and query to the place it means.
//!
//! The rules are those of the servlet container and the framework that Confluent's registry runs on, as far as clients see
//! them: segments are decoded after they were split, so that a subject may hold an escaped slash; what follows a semicolon
//! is no part of a segment; a slash at the end does not count; an empty segment or a control character is refused.

use super::store::State;
use super::subject::{self, Subject};

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Root,
    Contexts,
    Subjects,
    Subject(String),
    /// The latest version with certain metadata.
    WithMetadata(String),
    Versions(String),
    Version(String, String),
    VersionText(String, String),
    ReferencedBy(String, String),
    /// A check against all versions, or against one.
    Check(String, Option<String>),
    /// Of a subject, or the global one.
    Config(Option<String>),
    Mode(Option<String>),
    Schemas,
    Types,
    Id(String),
    IdText(String),
    IdSubjects(String),
    IdVersions(String),
    Guid(String),
    GuidIds(String),
    ClusterId,
    ServerVersion,
}

impl Place {
    fn of(segments: &[String]) -> Option<Place> {
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let own = str::to_owned;
        Some(match segments.as_slice() {
            [] => Place::Root,
            ["contexts"] => Place::Contexts,
            ["subjects"] => Place::Subjects,
            ["subjects", s] => Place::Subject(own(s)),
            ["subjects", s, "metadata"] => Place::WithMetadata(own(s)),
            ["subjects", s, "versions"] => Place::Versions(own(s)),
            ["subjects", s, "versions", v] => Place::Version(own(s), own(v)),
            ["subjects", s, "versions", v, "schema"] => Place::VersionText(own(s), own(v)),
            ["subjects", s, "versions", v, "referencedby"] => Place::ReferencedBy(own(s), own(v)),
            ["compatibility", "subjects", s, "versions"] => Place::Check(own(s), None),
            ["compatibility", "subjects", s, "versions", v] => Place::Check(own(s), Some(own(v))),
            ["config"] => Place::Config(None),
            ["config", s] => Place::Config(Some(own(s))),
            ["mode"] => Place::Mode(None),
            ["mode", s] => Place::Mode(Some(own(s))),
            ["schemas"] => Place::Schemas,
            ["schemas", "types"] => Place::Types,
            ["schemas", "ids", id] => Place::Id(own(id)),
            ["schemas", "ids", id, "schema"] => Place::IdText(own(id)),
            ["schemas", "ids", id, "subjects"] => Place::IdSubjects(own(id)),
            ["schemas", "ids", id, "versions"] => Place::IdVersions(own(id)),
            ["schemas", "guids", guid] => Place::Guid(own(guid)),
            ["schemas", "guids", guid, "ids"] => Place::GuidIds(own(guid)),
            ["v1", "metadata", "id"] => Place::ClusterId,
            ["v1", "metadata", "version"] => Place::ServerVersion,
            _ => return None,
        })
    }

    /// The methods that are answered there besides `HEAD` and `OPTIONS`.
    pub(super) fn methods(&self) -> &'static [&'static str] {
        match self {
            Place::Root | Place::Versions(_) => &["POST", "GET"],
            Place::Subject(_) => &["DELETE", "POST"],
            Place::Version(..) => &["DELETE", "GET"],
            Place::Check(..) => &["POST"],
            Place::Config(_) | Place::Mode(Some(_)) => &["DELETE", "GET", "PUT"],
            Place::Mode(None) => &["GET", "PUT"],
            _ => &["GET"],
        }
    }
}

/// The parameters of a request; where one is given twice, the first counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn read(text: &str) -> Query {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let decode = |text: &str| String::from_utf8_lossy(&unescape(&text.replace('+', " ")).unwrap_or_default()).into_owned();
        Query(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(key, value)| (decode(key), decode(value)))
                .collect(),
        )
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    pub(super) fn all(&self, key: &'static str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Whether it is `true`; whatever else is given is false.
    pub(super) fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    fn set(&mut self, key: &str, value: String) {
        self.0.retain(|(name, _)| name != key);
        self.0.push((key.to_owned(), value));
    }
}

/// Splits and decodes a path; `None` for one that is refused whatever it names.
pub(super) fn segments(path: &str) -> Option<Vec<String>> {
    let mut segments = Vec::new();
    let mut parts = path.strip_prefix('/')?.split('/').peekable();
    while let Some(part) = parts.next() {
        let name = part.split(';').next().unwrap_or_default();
        let decoded = String::from_utf8(unescape(name)?).ok()?;
        if decoded.chars().any(|c| c.is_ascii_control() || c == '\\') || is_escaped_dots(name) {
            return None;
        }
        match decoded.as_str() {
            "" if parts.peek().is_none() => {}
            "" => return None,
            "." => {}
            ".." => {
                segments.pop()?;
            }
            _ => segments.push(decoded),
        }
    }
    Some(segments)
}

/// Whether a segment is `.` or `..` with an escaped dot, which could mean two things.
fn is_escaped_dots(segment: &str) -> bool {
    let plain = segment.to_ascii_lowercase().replace("%2e", ".");
    plain != segment && matches!(plain.as_str(), "." | "..")
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            u8::try_from(high * 16 + low).ok()?
        } else {
            byte
        });
    }
    Some(out)
}

/// Where a request goes: what its path names, aliases followed, with its query.
///
/// # Errors
/// A context with an impossible name.
pub(super) fn find(state: &State, segments: Vec<String>, query: Query) -> Result<(Option<Place>, Query), &'static str> {
    let (mut segments, mut query) = in_context(segments, query)?;
    let subject = segments.iter().position(|segment| segment == "subjects").and_then(|at| segments.get_mut(at + 1));
    if let Some(subject) = subject {
        *subject = follow_alias(state, subject);
    }
    if is_by_id(&segments)
        && let Some(subject) = query.get("subject").map(|subject| follow_alias(state, subject))
    {
        query.set("subject", subject);
    }
    Ok((Place::of(&segments), query))
}

fn is_by_id(segments: &[String]) -> bool {
    matches!(segments, [schemas, ids, ..] if schemas == "schemas" && ids == "ids")
}

fn follow_alias(state: &State, subject: &str) -> String {
    let alias = state.config(subject).and_then(|config| config.alias.as_deref()).filter(|alias| !alias.is_empty());
    alias.map_or_else(|| subject.to_owned(), |alias| Subject::of(subject).refer(alias).to_string())
}

/// `/contexts/CONTEXT/..` means what follows with the context in front of each subject.
fn in_context(mut segments: Vec<String>, mut query: Query) -> Result<(Vec<String>, Query), &'static str> {
    if segments.len() < 2 || segments.first().is_none_or(|first| first != "contexts") {
        return Ok((segments, query));
    }
    let mut rest = segments.split_off(2);
    let prefix = subject::context_prefix(segments.get(1).map_or("", String::as_str))?;
    let qualify = |name: &str| {
        let has_context = name.starts_with(":.") || name.starts_with(subject::EVERYWHERE);
        if has_context { name.to_owned() } else { format!("{prefix}{name}") }
    };
    let is_setting = rest.first().is_some_and(|first| first == "config" || first == "mode");
    let before = if is_setting { Some(0) } else { rest.iter().position(|segment| segment == "subjects") };
    match before.and_then(|before| rest.get_mut(before + 1)) {
        Some(subject) => *subject = qualify(subject),
        None if is_setting && !prefix.is_empty() => rest.push(prefix.clone()),
        None => {}
    }
    if is_by_id(&rest) {
        query.set("subject", qualify(query.get("subject").unwrap_or_default()));
    } else if matches!(rest.as_slice(), [only] if only == "schemas" || only == "subjects") {
        query.set("subjectPrefix", qualify(query.get("subjectPrefix").unwrap_or_default()));
    }
    Ok((rest, query))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(path: &str) -> Option<Vec<String>> {
        segments(path)
    }

    fn place(path: &str, query: &str) -> (Option<Place>, Query) {
        find(&State::default(), segments(path).unwrap(), Query::read(query)).unwrap()
    }

    #[test]
    fn paths_are_split_and_then_decoded() {
        for (path, parts) in [
            ("/", vec![]),
            ("/a/", vec!["a"]),
            ("/a%2Fb/c+d/%C3%A9/%20/100%25", vec!["a/b", "c+d", "é", " ", "100%"]),
            ("/a;b=c/d;", vec!["a", "d"]),
            ("/a/./b/../c", vec!["a", "c"]),
        ] {
            assert_eq!(split(path).unwrap(), parts, "{path}");
        }
        for path in ["", "a", "//", "/a//b", "/a%0Ab", "/%ff", "/%2", "/%zz", "/..", "/a\\b", "/a%5Cb", "/a/%2e%2E", "/%7f"] {
            assert_eq!(split(path), None, "{path}");
        }
    }

    #[test]
    fn queries_are_read() {
        let query = Query::read("a=1&a=2&b=%26+x&c&=d&e=TRUE&f=1");
        assert_eq!((query.get("a"), query.get("b"), query.get("c"), query.get("g")), (Some("1"), Some("& x"), Some(""), None));
        assert!(query.flag("e") && !query.flag("f") && !query.flag("g"));
    }

    #[test]
    fn a_context_in_the_path_goes_before_the_subject() {
        assert_eq!(place("/contexts/c/subjects/s/versions/1", "").0, Some(Place::Version(":.c:s".into(), "1".into())));
        assert_eq!(place("/contexts/.c/subjects/:.d:s", "").0, Some(Place::Subject(":.d:s".into())));
        assert_eq!(place("/contexts/:.c:/config", "").0, Some(Place::Config(Some(":.c:".into()))));
        assert_eq!(place("/contexts/c/mode/s", "").0, Some(Place::Mode(Some(":.c:s".into()))));
        assert_eq!(place("/contexts/c/subjects", ""), (Some(Place::Subjects), Query::read("subjectPrefix=:.c:")));
        assert_eq!(place("/contexts/c/schemas/ids/1", "subject=s"), (Some(Place::Id("1".into())), Query::read("subject=:.c:s")));
        assert_eq!(place("/contexts/c", "").0, Some(Place::Root));
        assert_eq!(place("/contexts/", "").0, Some(Place::Contexts));
        assert!(find(&State::default(), segments("/contexts/a:b/subjects").unwrap(), Query::default()).is_err());
    }
}
