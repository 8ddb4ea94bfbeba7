//! Just enough of URIs for `$id` and `$ref`: whether a text is one, and how a relative one is resolved.

/// Why a text is no URI reference; `None` when it is one.
pub(super) fn fault(text: &str) -> Option<String> {
    let before_path = text.find(['/', '?', '#']).unwrap_or(text.len());
    if let Some(colon) = text.get(..before_path).and_then(|head| head.find(':')) {
        let scheme = text.get(..colon).unwrap_or("");
        let letters = scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !letters {
            return Some(format!("{text:?} is no URI: no scheme in front of the colon"));
        }
        if colon + 1 == text.len() {
            return Some(format!("{text:?} is no URI: nothing follows the scheme"));
        }
    }
    if text.matches('#').count() > 1 {
        return Some(format!("{text:?} is no URI: it has two fragments"));
    }
    let bad = text
        .chars()
        .find(|c| c.is_whitespace() || c.is_control() || matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}'));
    if let Some(bad) = bad {
        return Some(format!("{text:?} is no URI: it has a {bad:?}"));
    }
    let bytes = text.as_bytes();
    let percent = bytes.iter().enumerate().filter(|(_, b)| **b == b'%');
    for (at, _) in percent {
        if !bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) {
            return Some(format!("{text:?} is no URI: a % without two hexadecimal digits"));
        }
    }
    None
}

/// A URI without its fragment, and the fragment with its `#` (empty when there is none).
pub(super) fn split(uri: &str) -> (&str, &str) {
    uri.find('#').map_or((uri, ""), |at| uri.split_at(at))
}

/// `reference` as seen from `base`.
pub(super) fn resolve(base: Option<&str>, reference: &str) -> String {
    let Some(base) = base else { return reference.to_owned() };
    let (base, _) = split(base);
    let scheme_end = scheme_end(base);
    if scheme_end_of_reference(reference) || (scheme_end > 0 && !base.get(scheme_end..).unwrap_or("").starts_with('/')) {
        // The reference is absolute, or the base is opaque (`urn:..`).
        return reference.to_owned();
    }
    if reference.is_empty() || reference.starts_with('#') {
        return format!("{base}{reference}");
    }
    let rest = base.get(scheme_end..).unwrap_or("");
    let authority_end = rest.strip_prefix("//").map_or(0, |after| after.find(['/', '?']).unwrap_or(after.len()) + 2);
    let (origin, path) = base.split_at(scheme_end + authority_end);
    if reference.starts_with("//") {
        return format!("{}{reference}", base.get(..scheme_end).unwrap_or(""));
    }
    if reference.starts_with('/') {
        return format!("{origin}{reference}");
    }
    let path = path.split('?').next().unwrap_or("");
    let folder = path.rfind('/').map_or("", |at| path.get(..=at).unwrap_or(""));
    let (relative, tail) = reference.split_at(reference.find(['?', '#']).unwrap_or(reference.len()));
    format!("{origin}{}{tail}", without_dots(&format!("{folder}{relative}")))
}

/// The bytes of the scheme and its colon.
fn scheme_end(uri: &str) -> usize {
    let before_path = uri.find(['/', '?', '#']).unwrap_or(uri.len());
    uri.get(..before_path).and_then(|head| head.find(':')).map_or(0, |colon| colon + 1)
}

fn scheme_end_of_reference(reference: &str) -> bool {
    scheme_end(reference) > 0
}

/// Whether a URI has a scheme.
pub(super) fn absolute(uri: &str) -> bool {
    scheme_end(uri) > 0
}

fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_folder = false;
    for part in path.split('/') {
        ends_in_folder = matches!(part, "." | "..");
        match part {
            "." => {}
            ".." if kept.last().is_some_and(|last| !last.is_empty() && *last != "..") => {
                kept.pop();
            }
            part => kept.push(part),
        }
    }
    if ends_in_folder {
        kept.push("");
    }
    kept.join("/")
}

/// A token of a JSON pointer in a fragment, unescaped.
pub(super) fn pointer_token(token: &str) -> String {
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or(&[]);
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves() {
        for (base, reference, resolved) in [
            ("http://x.y/a/b.json", "c.json", "http://x.y/a/c.json"),
            ("http://x.y/a/b.json#f", "../c.json#/d", "http://x.y/c.json#/d"),
            ("http://x.y/a/b.json", "/c", "http://x.y/c"),
            ("http://x.y/a/b.json", "#/d", "http://x.y/a/b.json#/d"),
            ("http://x.y/a/b.json", "urn:q:1", "urn:q:1"),
            ("a.json", "b.json", "b.json"),
            ("dir/a.json", "./b.json", "dir/b.json"),
            ("urn:q:1", "#/d", "#/d"),
            ("mem://input", "#/d", "mem://input#/d"),
        ] {
            assert_eq!(resolve(Some(base), reference), resolved, "{reference} from {base}");
        }
        assert_eq!(resolve(None, "a.json"), "a.json");
    }

    #[test]
    fn faults() {
        assert_eq!(fault("http://example.com/a.json#/b"), None);
        assert_eq!(fault("a b"), Some("\"a b\" is no URI: it has a ' '".into()));
        assert_eq!(fault("::"), Some("\"::\" is no URI: no scheme in front of the colon".into()));
        assert_eq!(fault("a%4"), Some("\"a%4\" is no URI: a % without two hexadecimal digits".into()));
    }
}
