//! Templates in manifests: minijinja over single scalars and SQL texts, kept small in every direction.
//!
//! A template sees the environment's `vars` by their names, and `env.name`; nothing else. It may branch, loop and join,
//! but not include, import or define. Steps, output and the growth of values are all bounded: minijinja's fuel counts
//! steps only, and a few doublings of a text take no steps to speak of, so what could double is counted beforehand.

use std::collections::BTreeMap;
use std::io;

use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};

/// The longest template, in bytes.
const MAX_SOURCE: usize = 64 * 1024;
/// The longest result of a template, in bytes.
const MAX_OUTPUT: usize = 1024 * 1024;
/// The most steps of a template.
const MAX_FUEL: u64 = 100_000;
/// The most `~` and `+` of a template.
const MAX_JOINING: usize = 32;
/// How deep loops may stand in loops.
const MAX_LOOPS: usize = 2;
/// The statements that a template may use.
const STATEMENTS: [&str; 6] = ["if", "elif", "else", "endif", "for", "endfor"];

/// Renders templates with one environment's variables.
pub(super) struct Templates {
    engine: Environment<'static>,
    variables: BTreeMap<String, Value>,
}

/// Why a template has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TemplateError {
    /// Whether it is about a name that `vars` does not have.
    pub(super) undefined: bool,
    pub(super) message: String,
    /// Line of the template, counted from 1, where it is known.
    pub(super) line: Option<usize>,
    pub(super) help: String,
}

/// Whether a text is a template.
pub(super) fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

impl Templates {
    /// Templates that may use `vars` and `env.name`.
    pub(super) fn new(environment: &str, vars: &BTreeMap<String, serde_json::Value>) -> Self {
        let mut engine = Environment::empty();
        engine.set_undefined_behavior(UndefinedBehavior::Strict);
        engine.set_fuel(Some(MAX_FUEL));
        engine.set_recursion_limit(50);
        engine.add_filter("join", join);
        engine.add_filter("default", |value: Value, other: Value| if value.is_undefined() { other } else { value });
        engine.add_filter("length", |value: Value| {
            value.len().ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "only texts, lists and maps have a length"))
        });
        engine.add_filter("lower", |text: &str| text.to_lowercase());
        engine.add_filter("upper", |text: &str| text.to_uppercase());
        engine.add_filter("trim", |text: &str| text.trim().to_owned());
        engine.add_test("defined", |value: Value| !value.is_undefined());
        let mut variables: BTreeMap<String, Value> =
            vars.iter().map(|(name, value)| (name.clone(), Value::from(Serde(value)))).collect();
        variables.insert("env".into(), Value::from(BTreeMap::from([("name", environment.to_owned())])));
        Templates { engine, variables }
    }

    /// The result of a template.
    pub(super) fn render(&self, source: &str) -> Result<String, TemplateError> {
        check_growth(source).map_err(|message| TemplateError {
            undefined: false,
            message,
            line: None,
            help: "a template may use `if`, `for` and expressions; compute the rest in `vars`".into(),
        })?;
        let template = self.engine.template_from_str(source).map_err(|error| self.explain(&error, Vec::new()))?;
        let mut output = Bounded { bytes: Vec::new() };
        match template.render_captured_to(Value::from(self.variables.clone()), &mut output) {
            Ok(_) => String::from_utf8(output.bytes).map_err(|_| self.explain(&ErrorKind::WriteFailure.into(), Vec::new())),
            Err(error) => {
                let mut unknown: Vec<String> =
                    template.undeclared_variables(true).into_iter().filter(|name| !self.knows(name)).collect();
                unknown.sort();
                Err(self.explain(&error, unknown))
            }
        }
    }

    /// Whether a name, dotted or not, stands for something.
    fn knows(&self, name: &str) -> bool {
        let mut parts = name.split('.');
        let Some(mut value) = parts.next().and_then(|first| self.variables.get(first)).cloned() else { return false };
        for part in parts {
            match value.get_attr(part) {
                Ok(inner) if !inner.is_undefined() => value = inner,
                _ => return false,
            }
        }
        true
    }

    fn explain(&self, error: &Error, unknown: Vec<String>) -> TemplateError {
        let line = error.line();
        if let (ErrorKind::UndefinedError, Some(name)) = (error.kind(), unknown.first()) {
            let known: Vec<&str> = self.variables.keys().map(String::as_str).collect();
            let help = match super::walk::closest(name, &known) {
                Some(close) => format!("did you mean `{close}`?"),
                None => "give it under `spec.vars` of the environment".into(),
            };
            return TemplateError { undefined: true, message: format!("undefined variable `{name}`"), line, help };
        }
        let mut message = match error.kind() {
            ErrorKind::OutOfFuel => "takes too many steps".into(),
            ErrorKind::WriteFailure => "its result is longer than 1 MiB".into(),
            kind => kind.to_string(),
        };
        if let Some(detail) = error.detail().filter(|_| !matches!(error.kind(), ErrorKind::OutOfFuel | ErrorKind::WriteFailure)) {
            message = format!("{message}: {detail}");
        }
        let help = "a template is `{{ name }}`, `{% if .. %}..{% endif %}` or `{% for .. %}..{% endfor %}`".into();
        TemplateError { undefined: false, message, line, help }
    }
}

/// Joins a list's items, within the bound of outputs.
fn join(items: Value, separator: Option<&str>, kwargs: Kwargs) -> Result<String, Error> {
    kwargs.assert_all_used()?;
    let separator = separator.unwrap_or("");
    let mut joined = String::new();
    for (index, item) in items.try_iter()?.enumerate() {
        let item = item.to_string();
        if index > 0 {
            joined.push_str(separator);
        }
        joined.push_str(&item);
        if joined.len() > MAX_OUTPUT || index > MAX_SOURCE {
            return Err(Error::new(ErrorKind::WriteFailure, "a joined text is too long"));
        }
    }
    Ok(joined)
}

/// A text that refuses to grow past its bound.
struct Bounded {
    bytes: Vec<u8>,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Refuses what could make a value grow beyond measure within few steps: names for intermediate values, deep loops,
/// repetition, and many joining operators.
fn check_growth(source: &str) -> Result<(), String> {
    if source.len() > MAX_SOURCE {
        return Err("longer than 64 KiB".into());
    }
    let (mut rest, mut joining, mut loops) = (source, 0, 0usize);
    while let Some((tag, after)) = next_tag(rest) {
        rest = after;
        if let Some(statement) = tag.strip_prefix("{%") {
            let inside = statement.trim_start_matches(['-', '+']).trim_start();
            let word = inside.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
            if !STATEMENTS.contains(&word) {
                return Err(format!("the statement `{word}` is not offered"));
            }
            match word {
                "for" if inside.split_whitespace().any(|w| w == "recursive") => return Err("a loop that calls itself".into()),
                "for" => loops += 1,
                "endfor" => loops = loops.saturating_sub(1),
                _ => {}
            }
            if loops > MAX_LOOPS {
                return Err(format!("loops stand more than {MAX_LOOPS} deep in each other"));
            }
        }
        for operator in operators(tag) {
            match operator {
                '*' => return Err("the operator `*` is not offered".into()),
                _ => joining += 1,
            }
        }
        if joining > MAX_JOINING {
            return Err(format!("more than {MAX_JOINING} joining operators (`~`, `+`)"));
        }
    }
    Ok(())
}

/// The next `{{ .. }}` or `{% .. %}` of a template, and what follows it.
fn next_tag(source: &str) -> Option<(&str, &str)> {
    let mut from = 0;
    loop {
        let start = from + source.get(from..)?.find('{')?;
        let close = match source.as_bytes().get(start + 1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            Some(b'#') => {
                from = start + 2 + source[start + 2..].find("#}")? + 2;
                continue;
            }
            _ => {
                from = start + 1;
                continue;
            }
        };
        let end = tag_end(&source[start + 2..], close).map_or(source.len(), |at| start + 2 + at);
        return Some((&source[start..end], &source[end..]));
    }
}

/// Where a tag's inside ends, past its closing mark, texts in quotes left alone.
fn tag_end(inside: &str, close: &str) -> Option<usize> {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in inside.char_indices() {
        match quote {
            _ if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if inside[at..].starts_with(close) => return Some(at + close.len()),
            None => {}
        }
    }
    None
}

/// The operators of a tag that make values grow, those in quotes left alone.
fn operators(tag: &str) -> impl Iterator<Item = char> {
    let (mut quote, mut escaped) = (None, false);
    tag.chars().filter(move |&c| {
        match quote {
            _ if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None => return matches!(c, '~' | '+' | '*'),
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> String {
        let vars =
            serde_json::json!({"min_surplus": 1, "regions": ["Oakland", "Berkeley"], "big": "x".repeat(4000), "flag": true});
        let vars = serde_json::from_value(vars).unwrap();
        match Templates::new("prod", &vars).render(source) {
            Ok(text) => text,
            Err(error) => format!("{error:?}"),
        }
    }

    #[test]
    fn variables_branches_and_loops() {
        assert_eq!(render("surplus >= {{ min_surplus }} -- {{ env.name }}"), "surplus >= 1 -- prod");
        assert_eq!(render("{% for r in regions %}[{{ r | upper }}]{% endfor %}"), "[OAKLAND][BERKELEY]");
        assert_eq!(render("IN ('{{ regions | join(\"', '\") }}')"), "IN ('Oakland', 'Berkeley')");
        assert_eq!(render("{% if flag and min_surplus > 0 %}yes{% else %}no{% endif %}"), "yes");
        assert_eq!(render("{{ nothing is defined }} {{ nothing | default('x') }}"), "False x");
        assert_eq!(render("<&> {# a {{ comment }} #}{{ '}}' }}"), "<&> }}");
    }

    #[test]
    fn what_is_undefined_is_named() {
        insta::assert_snapshot!(render("a\n{{ min_surplu }}"), @r#"TemplateError { undefined: true, message: "undefined variable `min_surplu`", line: Some(2), help: "did you mean `min_surplus`?" }"#);
        insta::assert_snapshot!(render("{{ env.nme }}"), @r#"TemplateError { undefined: true, message: "undefined variable `env.nme`", line: Some(1), help: "give it under `spec.vars` of the environment" }"#);
    }

    #[test]
    fn syntax_errors_have_a_line() {
        insta::assert_snapshot!(render("a\n{{ 1 + }}"), @r#"TemplateError { undefined: false, message: "syntax error: unexpected end of variable block", line: Some(2), help: "a template is `{{ name }}`, `{% if .. %}..{% endif %}` or `{% for .. %}..{% endfor %}`" }"#);
        insta::assert_snapshot!(render("{{ unclosed"), @r#"TemplateError { undefined: false, message: "syntax error: unexpected end of input, expected end of variable block", line: Some(1), help: "a template is `{{ name }}`, `{% if .. %}..{% endif %}` or `{% for .. %}..{% endfor %}`" }"#);
        insta::assert_snapshot!(render("{{ min_surplus | nope }}"), @r#"TemplateError { undefined: false, message: "unknown filter: filter nope is unknown", line: Some(1), help: "a template is `{{ name }}`, `{% if .. %}..{% endif %}` or `{% for .. %}..{% endfor %}`" }"#);
    }

    #[test]
    fn nothing_grows_beyond_measure() {
        insta::assert_snapshot!(render("{% set x = 'a' %}"), @r#"TemplateError { undefined: false, message: "the statement `set` is not offered", line: None, help: "a template may use `if`, `for` and expressions; compute the rest in `vars`" }"#);
        insta::assert_snapshot!(render("{{ 'a' * 100000000 }}"), @r#"TemplateError { undefined: false, message: "the operator `*` is not offered", line: None, help: "a template may use `if`, `for` and expressions; compute the rest in `vars`" }"#);
        insta::assert_snapshot!(render(&"{{ big ~ big }}".repeat(40)), @r#"TemplateError { undefined: false, message: "more than 32 joining operators (`~`, `+`)", line: None, help: "a template may use `if`, `for` and expressions; compute the rest in `vars`" }"#);
        insta::assert_snapshot!(render("{% for a in [1] recursive %}{{ loop([a ~ a]) }}{% endfor %}"), @r#"TemplateError { undefined: false, message: "a loop that calls itself", line: None, help: "a template may use `if`, `for` and expressions; compute the rest in `vars`" }"#);
        insta::assert_snapshot!(render(&format!("{}{}", "{% for a in regions %}".repeat(3), "{% endfor %}".repeat(3))), @r#"TemplateError { undefined: false, message: "loops stand more than 2 deep in each other", line: None, help: "a template may use `if`, `for` and expressions; compute the rest in `vars`" }"#);
        insta::assert_snapshot!(render(&format!("{{% for a in [{}] %}}{{{{ big }}}}{{% endfor %}}", "1,".repeat(1000))), @r#"TemplateError { undefined: false, message: "its result is longer than 1 MiB", line: None, help: "a template is `{{ name }}`, `{% if .. %}..{% endif %}` or `{% for .. %}..{% endfor %}`" }"#);
        insta::assert_snapshot!(render(&format!("{{% for a in [{0}] %}}{{% for b in [{0}] %}}x{{% endfor %}}{{% endfor %}}", "1,".repeat(1000))), @r#"TemplateError { undefined: false, message: "takes too many steps", line: Some(1), help: "a template is `{{ name }}`, `{% if .. %}..{% endif %}` or `{% for .. %}..{% endfor %}`" }"#);
        insta::assert_snapshot!(render("{{ debug() }}"), @r#"TemplateError { undefined: false, message: "unknown function: debug is unknown", line: Some(1), help: "a template is `{{ name }}`, `{% if .. %}..{% endif %}` or `{% for .. %}..{% endfor %}`" }"#);
        insta::assert_snapshot!(render("{% include 'x' %}"), @r#"TemplateError { undefined: false, message: "the statement `include` is not offered", line: None, help: "a template may use `if`, `for` and expressions; compute the rest in `vars`" }"#);
        insta::assert_snapshot!(render("{% raw %}{{ a }}{% endraw %}"), @r#"TemplateError { undefined: false, message: "the statement `raw` is not offered", line: None, help: "a template may use `if`, `for` and expressions; compute the rest in `vars`" }"#);
    }

    #[test]
    fn quotes_hide_nothing_from_the_count() {
        assert!(check_growth("{{ '}}' ~ \"%}\\\" ~\" * 2 }}").is_err());
        assert!(check_growth("SELECT a * b FROM c -- {not a tag} * * {{ '*' }}").is_ok());
    }
}
