//! Diagnostics as text: code, place, the offending text underlined, help.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::paint::{clean, line};
use crate::model::{Diagnostic, Place, Severity, Texts};

/// All diagnostics, one after the other, each with the text it is about. Ends with a count.
pub fn diagnostics(all: &[Diagnostic], texts: &Texts, color: bool) -> String {
    let renderer = if color { Renderer::styled().hyperlink(false) } else { Renderer::plain() };
    let mut out = String::new();
    for diagnostic in all {
        out.push_str(&one(diagnostic, texts, &renderer));
        out.push_str("\n\n");
    }
    out.push_str(&count(all));
    out
}

fn count(all: &[Diagnostic]) -> String {
    let number = |severity, word: &str| match all.iter().filter(|d| d.severity == severity).count() {
        0 => None,
        1 => Some(format!("1 {word}")),
        n => Some(format!("{n} {word}s")),
    };
    let parts: Vec<String> =
        [number(Severity::Error, "error"), number(Severity::Warning, "warning")].into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!("{}\n", parts.join(", ")) }
}

/// One diagnostic, without a line break at its end.
pub(super) fn one(diagnostic: &Diagnostic, texts: &Texts, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group: Group<'_> = Group::with_title(level.primary_title(line(&diagnostic.message)).id(diagnostic.code.0));
    if let Some(place) = &diagnostic.place {
        group = match texts.get(&place.file) {
            Some(text) => elements(group, diagnostic, place, text, texts),
            None => group.element(annotate_snippets::Origin::path(line(&place.file))),
        };
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(clean(help)));
    }
    renderer.render(&[group])
}

/// The text itself, and those of other files that belong to it.
fn elements<'a>(group: Group<'a>, diagnostic: &'a Diagnostic, place: &Place, text: &'a str, texts: &'a Texts) -> Group<'a> {
    let mut own = snippet(place, text, AnnotationKind::Primary, None);
    let mut others = Vec::new();
    for (related, label) in &diagnostic.related {
        if related.file == place.file {
            own = own.annotation(AnnotationKind::Context.span(range(related, text)).label(clean(label)));
        } else if let Some(text) = texts.get(&related.file) {
            others.push(snippet(related, text, AnnotationKind::Context, Some(label)));
        }
    }
    group.element(own).elements(others)
}

fn snippet<'a>(
    place: &Place,
    text: &'a str,
    kind: AnnotationKind,
    label: Option<&'a str>,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let mut annotation = kind.span(range(place, text));
    if let Some(label) = label {
        annotation = annotation.label(clean(label));
    }
    Snippet::source(text).path(line(&place.file)).line_start(1).annotation(annotation)
}

/// The place's bytes within the text, on the first of its lines, and never inside a character.
fn range(place: &Place, text: &str) -> std::ops::Range<usize> {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(place.start);
    let end = floor(place.end.max(start));
    let first_line = text[start..end].trim_end().find('\n').map_or(end, |at| start + at);
    start..first_line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Code;

    fn texts() -> Texts {
        let mut texts = Texts::default();
        texts.insert("products/a.yaml", "kind: DataProduct\nmetadata:\n  nme: orders\n");
        texts.insert("sql/a.sql", "SELECT capacity,\n       größe\nFROM b\n");
        texts
    }

    #[test]
    fn a_place_is_underlined_and_helped() {
        let unknown = Diagnostic::error(Code("M0102"), Place::new("products/a.yaml", 30..33), "unknown field nme")
            .help("did you mean name?");
        let fading = Diagnostic::warning(Code("M0499"), Place::new("sql/a.sql", 24..31), "größe is null where capacity is 0")
            .related(Place::new("products/a.yaml", 0..4), "declared here");
        insta::assert_snapshot!(diagnostics(&[unknown, fading], &texts(), false), @r#"
error[M0102]: unknown field nme
 --> products/a.yaml:3:3
  |
3 |   nme: orders
  |   ^^^
  |
  = help: did you mean name?

warning[M0499]: größe is null where capacity is 0
 --> sql/a.sql:2:8
  |
2 |        größe
  |        ^^^^^
  |
 ::: products/a.yaml:1:1
  |
1 | kind: DataProduct
  | ---- declared here

1 error, 1 warning
"#);
    }

    #[test]
    fn many_lines_are_cut_to_the_first() {
        let whole = Diagnostic::error(Code("M0412"), Place::new("sql/a.sql", 0..40), "two columns \u{1b}[31m are doubled");
        insta::assert_snapshot!(diagnostics(&[whole], &texts(), false), @r#"
error[M0412]: two columns �[31m are doubled
 --> sql/a.sql:1:1
  |
1 | SELECT capacity,
  | ^^^^^^^^^^^^^^^^

1 error
"#);
    }

    #[test]
    fn what_has_no_text_has_no_snippet() {
        let nowhere = Diagnostic::error(Code("M0101"), None, "no manifest was found").help("name a folder with -f");
        let lost = Diagnostic::error(Code("M0101"), Place::new("gone.yaml", 4..9), "could not be read");
        let outside = Diagnostic::error(Code("M0103"), Place::new("sql/a.sql", 9000..9100), "ends too early");
        insta::assert_snapshot!(diagnostics(&[nowhere, lost, outside], &texts(), false), @r#"
error[M0101]: no manifest was found
 |
 = help: name a folder with -f

error[M0101]: could not be read
--> gone.yaml

error[M0103]: ends too early
 --> sql/a.sql:3:8
  |
3 | FROM b
  |       ^

3 errors
"#);
        assert_eq!(diagnostics(&[], &texts(), true), "");
    }

    #[test]
    fn colours_are_asked_for() {
        let warning = Diagnostic::warning(Code("M0101"), None, "careful");
        assert!(diagnostics(std::slice::from_ref(&warning), &texts(), true).contains('\u{1b}'));
        assert!(!diagnostics(&[warning], &texts(), false).contains('\u{1b}'));
    }
}
