//! Names of subjects: `orders-value`, or `:.context:orders-value` where the registry is divided into contexts.
//!
//! A name without a context is of the default one, `.`, and `:.:name` is the same as `name`. Ids and references are per
//! context. The rules are those of Confluent's registry, whose documentation calls this a qualified subject.

use std::fmt;

/// The context of names that give none.
pub(super) const DEFAULT: &str = ".";
/// In front of a name or alone: all contexts. For listing only.
pub(super) const EVERYWHERE: &str = ":*:";

/// A name taken apart. The order is by context, then by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Subject {
    /// Begins with a dot, or is `*`.
    pub context: String,
    /// The name within the context; empty for the context itself.
    pub name: String,
}

impl Subject {
    pub(super) fn of(text: &str) -> Subject {
        let (context, name) = match (text.strip_prefix(EVERYWHERE), text.strip_prefix(':')) {
            (Some(name), _) => ("*", name),
            (None, Some(rest)) if rest.starts_with('.') => rest.split_once(':').unwrap_or((rest, "")),
            _ => (DEFAULT, text),
        };
        Subject { context: context.to_owned(), name: name.to_owned() }
    }

    /// The name that `text` stands for when a schema of this subject refers to it: in the same context, unless it says.
    pub(super) fn refer(&self, text: &str) -> Subject {
        let other = Subject::of(text);
        if other.is_default_context() { Subject { context: self.context.clone(), name: other.name } } else { other }
    }

    /// Where the name stands among `count` names in a hash map of Java's, whose order Confluent's registry shows.
    pub(super) fn hash_place(&self, count: usize) -> u32 {
        let hash = self.to_string().encode_utf16().fold(0_u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit)));
        // Sixteen buckets, doubled when three quarters are taken.
        let buckets = u32::try_from((count / 3 * 4 + 1).next_power_of_two().max(16)).unwrap_or(1 << 31);
        (hash ^ (hash >> 16)) & (buckets - 1)
    }

    /// What stands in front of a name of this context: nothing, or `:.context:`.
    pub(super) fn prefix(&self) -> String {
        if self.is_default_context() { String::new() } else { format!(":{}:", self.context) }
    }

    pub(super) fn is_default_context(&self) -> bool {
        self.context == DEFAULT
    }

    /// Whether it is the default context itself, for which configs and modes are the global ones.
    pub(super) fn is_global(&self) -> bool {
        self.is_default_context() && self.name.is_empty()
    }

    /// Whether something may be kept under the name.
    pub(super) fn is_valid(&self) -> bool {
        !self.name.chars().chain(self.context.chars()).any(char::is_control)
            && !matches!(self.name.as_str(), "__GLOBAL" | "__EMPTY")
    }

    /// Whether `other` is this subject, or in this context if it is one.
    pub(super) fn covers(&self, other: &Subject) -> bool {
        self == other || (self.name.is_empty() && self.context == other.context)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.prefix(), self.name)
    }
}

/// What stands in front of the names of the context that a path names: `ctx`, `.ctx` and `:.ctx:` are the same.
///
/// # Errors
/// A colon within the name.
pub(super) fn context_prefix(text: &str) -> Result<String, &'static str> {
    let text = text.strip_prefix(':').unwrap_or(text);
    let text = text.strip_suffix(':').unwrap_or(text);
    if text.contains(':') {
        return Err("A context's name holds no colon");
    }
    let context = if text.starts_with('.') { text.to_owned() } else { format!(".{text}") };
    Ok(Subject { context, name: String::new() }.prefix())
}

/// The subjects that a prefix means: those from the first of the two on, up to but without the second.
pub(super) fn range(prefix: &str) -> (Subject, Subject) {
    let last = char::MAX;
    if prefix == EVERYWHERE {
        return (Subject::of(":.:"), Subject::of(&format!(":.{last}:")));
    }
    (Subject::of(prefix), Subject::of(&format!("{prefix}{last}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_and_put_together() {
        for (text, context, name, again) in [
            ("a", ".", "a", "a"),
            ("", ".", "", ""),
            (":.:a", ".", "a", "a"),
            (":.c:a", ".c", "a", ":.c:a"),
            (":.c:", ".c", "", ":.c:"),
            (":.c", ".c", "", ":.c:"),
            (":.c:a:b", ".c", "a:b", ":.c:a:b"),
            ("a:b", ".", "a:b", "a:b"),
            (":x", ".", ":x", ":x"),
            (":*:a", "*", "a", ":*:a"),
        ] {
            let subject = Subject::of(text);
            assert_eq!((subject.context.as_str(), subject.name.as_str()), (context, name), "{text}");
            assert_eq!(subject.to_string(), again);
        }
        assert!(Subject::of(":.:").is_global() && Subject::of("").is_global() && !Subject::of(":.c:").is_global());
        assert!(!Subject::of("a\u{7}").is_valid() && !Subject::of(":.c:__GLOBAL").is_valid() && Subject::of("ä/b").is_valid());
    }

    #[test]
    fn references_stay_in_their_context_unless_they_say() {
        assert_eq!(Subject::of(":.c:a").refer("b"), Subject::of(":.c:b"));
        assert_eq!(Subject::of(":.c:a").refer(":.d:b"), Subject::of(":.d:b"));
        assert_eq!(Subject::of("a").refer("b"), Subject::of("b"));
    }

    #[test]
    fn contexts_are_named_in_several_ways() {
        for text in ["ctx", ".ctx", ":.ctx:", ":.ctx"] {
            assert_eq!(context_prefix(text), Ok(":.ctx:".to_owned()), "{text}");
        }
        assert_eq!(context_prefix("."), Ok(String::new()));
        assert!(context_prefix("a:b").is_err());
    }

    #[test]
    fn names_have_a_place_in_a_hash_map() {
        let mut names = ["w", "u", "user2"];
        names.sort_by_key(|name| Subject::of(name).hash_place(3));
        assert_eq!(names, ["user2", "u", "w"], "as it was seen");
    }

    #[test]
    fn prefixes_are_ranges() {
        let within = |prefix: &str, name: &str| {
            let (from, to) = range(prefix);
            let subject = Subject::of(name);
            from <= subject && subject < to
        };
        assert!(within("", "a") && !within("", ":.c:a"));
        assert!(within("a", "ab") && within("a", "a") && !within("a", "b"));
        assert!(within(":.c:", ":.c:a") && !within(":.c:", ":.d:a") && !within(":.c:", "a"));
        assert!(within(EVERYWHERE, ":.c:a") && within(EVERYWHERE, "a") && within(EVERYWHERE, ""));
    }
}
