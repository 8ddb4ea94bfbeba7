//! A query's text to one `SELECT` of the parser, or the reason why it is not one.

use datafusion_sql::sqlparser::ast::{Expr, ObjectName, ObjectNamePart, Query as AstQuery, Statement, Visit, Visitor};
use datafusion_sql::sqlparser::dialect::Dialect;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{Location, Token};
use std::cell::Cell;
use std::ops::ControlFlow;

use super::codes;
use super::text::{Lexeme, Text, byte_of};
use crate::model::diagnostic::{Diagnostic, Diagnostics, Place};
use crate::model::product::SqlText;

/// How deep parentheses, calls and sub-queries may nest.
const MAX_DEPTH: usize = 50;

/// The SQL that is parsed: more than is carried out, so that what is not is refused with a reason instead of a syntax error.
#[derive(Debug)]
pub(crate) struct MeshDialect {
    /// How many operands the parser may still begin with. It goes back and tries again where a form such as CAST turns
    /// out to be none, and nested ones take exponential time without a bound.
    steps: Cell<usize>,
}

impl MeshDialect {
    /// For a query of so many tokens.
    pub(crate) fn for_tokens(tokens: usize) -> Self {
        MeshDialect { steps: Cell::new(10_000 + 20 * tokens) }
    }

    fn exhausted(&self) -> bool {
        self.steps.get() == 0
    }
}

impl Dialect for MeshDialect {
    fn parse_prefix(&self, _: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        self.steps.set(self.steps.get().saturating_sub(1));
        self.exhausted().then_some(Err(ParserError::RecursionLimitExceeded))
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_'
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '"' || ch == '`'
    }

    fn support_map_literal_syntax(&self) -> bool {
        true
    }

    fn supports_struct_literal(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_window_function_null_treatment_arg(&self) -> bool {
        true
    }

    fn supports_window_clause_named_window_reference(&self) -> bool {
        true
    }

    fn supports_select_wildcard_except(&self) -> bool {
        true
    }

    fn supports_select_wildcard_exclude(&self) -> bool {
        true
    }

    fn supports_select_wildcard_replace(&self) -> bool {
        true
    }

    fn supports_select_wildcard_rename(&self) -> bool {
        true
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn supports_parens_around_table_factor(&self) -> bool {
        true
    }

    fn supports_values_as_table_factor(&self) -> bool {
        true
    }

    fn supports_nested_comments(&self) -> bool {
        true
    }

    fn supports_string_escape_constant(&self) -> bool {
        true
    }

    fn supports_numeric_literal_underscores(&self) -> bool {
        true
    }

    fn supports_limit_comma(&self) -> bool {
        true
    }
}

/// A query that was parsed.
pub(crate) struct Parsed<'a> {
    pub(crate) text: Text<'a>,
    pub(crate) query: AstQuery,
}

/// Parses one query. Errors: one diagnostic, the first.
pub(crate) fn parse(sql: &SqlText) -> Result<Parsed<'_>, Box<Diagnostic>> {
    let text = Text::read(sql)?;
    if text.lexemes.iter().all(|lexeme| lexeme.token == Token::SemiColon) {
        return Err(Box::new(
            Diagnostic::error(codes::SYNTAX, sql.place(0..0), "the query is empty").help("write `SELECT .. FROM ..`"),
        ));
    }
    one_statement(&text)?;
    balanced(&text)?;
    let dialect = MeshDialect::for_tokens(text.lexemes.len());
    let mut parser = Parser::new(&dialect).with_recursion_limit(MAX_DEPTH).with_tokens_with_locations(text.tokens.clone());
    let statement = parser.parse_statement().and_then(|statement| {
        while parser.consume_token(&Token::SemiColon) {}
        // The parser stops where a statement may end; what stands behind it must not be lost.
        match parser.peek_token_ref().token {
            Token::EOF => Ok(statement),
            _ => parser.expected_ref("the end of the query", parser.peek_token_ref()),
        }
    });
    if dialect.exhausted() {
        let message = "the SQL can't be parsed: its parts do not fit together";
        let help = "look for a CAST without AS, or for another form whose end is missing";
        return Err(Box::new(Diagnostic::error(codes::SYNTAX, text.start(), message).help(help)));
    }
    match statement.map_err(|e| syntax_error(&text, e))? {
        Statement::Query(query) => Ok(Parsed { text, query: *query }),
        _ => {
            let word = text.lexemes.first().map(|lexeme| lexeme.token.to_string().to_uppercase()).unwrap_or_default();
            let message = format!("a derivation is a SELECT, not {word}");
            let help = "write only `SELECT .. FROM ..`: mesh creates the topic and writes the result into it";
            Err(Box::new(Diagnostic::error(codes::UNSUPPORTED, text.start(), message).help(help)))
        }
    }
}

/// Refuses a parenthesis that is not closed, or not opened.
fn balanced(text: &Text<'_>) -> Result<(), Box<Diagnostic>> {
    let mut open = Vec::new();
    let wrong = |lexeme: &Lexeme, what: &str| {
        let place = text.sql.place(lexeme.bytes.clone());
        Err(Box::new(Diagnostic::error(codes::SYNTAX, place, format!("the SQL can't be parsed: `{}` is {what}", lexeme.token))))
    };
    for lexeme in &text.lexemes {
        let opening = match lexeme.token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                open.push(lexeme);
                continue;
            }
            Token::RParen => Token::LParen,
            Token::RBracket => Token::LBracket,
            Token::RBrace => Token::LBrace,
            _ => continue,
        };
        if open.pop().is_none_or(|o| o.token != opening) {
            return wrong(lexeme, "not opened");
        }
    }
    open.pop().map_or(Ok(()), |lexeme| wrong(lexeme, "never closed"))
}

/// Refuses a second statement after a semicolon.
fn one_statement(text: &Text<'_>) -> Result<(), Box<Diagnostic>> {
    let end = text.lexemes.iter().position(|lexeme| lexeme.token == Token::SemiColon).unwrap_or(text.lexemes.len());
    let second = text.lexemes.get(end..).unwrap_or_default().iter().find(|lexeme| lexeme.token != Token::SemiColon);
    match second {
        Some(lexeme) if end > 0 => {
            let place = text.sql.place(lexeme.bytes.clone());
            let help = "a derivation is one SELECT: make a product of its own for each result";
            Err(Box::new(
                Diagnostic::error(codes::UNSUPPORTED, place, "a second statement stands after the semicolon").help(help),
            ))
        }
        _ => Ok(()),
    }
}

/// The parser's error as a diagnostic, at the place that its message names.
fn syntax_error(text: &Text<'_>, error: ParserError) -> Box<Diagnostic> {
    Box::new(syntax_diagnostic(text, error))
}

fn syntax_diagnostic(text: &Text<'_>, error: ParserError) -> Diagnostic {
    if let Some(window) = window_function(text) {
        return window;
    }
    let message = match error {
        ParserError::RecursionLimitExceeded => {
            return Diagnostic::error(codes::TOO_LARGE, text.start(), format!("the query nests more than {MAX_DEPTH} deep"))
                .help("take parentheses away, or split the query into several products");
        }
        ParserError::ParserError(message) | ParserError::TokenizerError(message) => message,
    };
    let (what, location) = split_location(&message);
    let at = location.map_or(text.sql.text.len(), |l| byte_of(&text.sql.text, l));
    let lexeme = text.lexemes.iter().find(|lexeme| lexeme.bytes.start >= at);
    let bytes = lexeme.map_or(text.sql.text.trim_end().len()..text.sql.text.trim_end().len(), |lexeme| lexeme.bytes.clone());
    let diagnostic = |code, message: String| Diagnostic::error(code, text.sql.place(bytes.clone()), message);
    let before = text.lexemes.iter().take_while(|lexeme| lexeme.bytes.end <= bytes.start).last();
    let emits = |lexeme: Option<&Lexeme>| lexeme.is_some_and(|lexeme| lexeme.token.to_string().eq_ignore_ascii_case("emit"));
    if emits(lexeme) || emits(before) {
        return diagnostic(codes::UNSUPPORTED, "EMIT is not supported yet".into())
            .help("leave it out: each change of the result is written");
    }
    let what = what.trim_end_matches([':', ' ']).replace("Expected: ", "expected ").replace(", found: ", ", found ");
    let what = what.replace("found EOF", "found the end of the query");
    let mut chars = what.chars();
    let what = chars.next().map(|c| c.to_lowercase().chain(chars).collect::<String>()).unwrap_or_default();
    diagnostic(codes::SYNTAX, format!("the SQL can't be parsed: {what}"))
}

/// `Expected: x, found: y at Line: 3, Column: 5` in its two parts.
fn split_location(message: &str) -> (&str, Option<Location>) {
    let Some((what, at)) = message.rsplit_once(" at Line: ") else { return (message, None) };
    let Some((line, column)) = at.split_once(", Column: ") else { return (message, None) };
    match (line.trim().parse(), column.trim().parse()) {
        (Ok(line), Ok(column)) => (what, Some(Location { line, column })),
        _ => (message, None),
    }
}

/// Windows as table functions have arguments that only later issues parse.
fn window_function(text: &Text<'_>) -> Option<Diagnostic> {
    let names = ["TUMBLE", "HOP", "SESSION", "CUMULATE"];
    let pairs = text.lexemes.windows(2);
    let found = pairs.filter_map(|pair| match pair {
        [Lexeme { token: Token::Word(word), bytes }, Lexeme { token: Token::LParen, .. }] => Some((word, bytes)),
        _ => None,
    });
    let (word, bytes) = found.into_iter().find(|(word, _)| names.contains(&word.value.to_uppercase().as_str()))?;
    Some(windows_refused(text.sql.place(bytes.clone()), &word.value))
}

/// That a window is not carried out yet.
pub(crate) fn windows_refused(place: Place, name: &str) -> Diagnostic {
    Diagnostic::error(codes::UNSUPPORTED, place, format!("the window {} is not supported yet", name.to_uppercase()))
        .help("GROUP BY without a window keeps one row for each group, for ever")
}

/// The relations that a query names in FROM, sub-queries included.
pub(crate) fn reads(sql: &SqlText) -> (Vec<(String, Place)>, Diagnostics) {
    match parse(sql) {
        Err(diagnostic) => (Vec::new(), vec![*diagnostic]),
        Ok(parsed) => {
            let mut walk = Reads { text: &parsed.text, around: Vec::new(), found: Vec::new() };
            let _ = parsed.query.visit(&mut walk);
            (walk.found, Vec::new())
        }
    }
}

struct Reads<'a> {
    text: &'a Text<'a>,
    around: Vec<Around>,
    found: Vec<(String, Place)>,
}

/// The WITH of a query that is being walked through.
struct Around {
    /// Its sub-queries, by their places in memory, and their names.
    ctes: Vec<(*const AstQuery, String)>,
    /// How many of them were walked through: those are in sight.
    seen: usize,
}

impl Visitor for Reads<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &AstQuery) -> ControlFlow<()> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        let ctes = tables.map(|cte| (std::ptr::from_ref(cte.query.as_ref()), name_of(&cte.alias.name))).collect();
        self.around.push(Around { ctes, seen: 0 });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &AstQuery) -> ControlFlow<()> {
        self.around.pop();
        if let Some(around) = self.around.last_mut()
            && around.ctes.get(around.seen).is_some_and(|(cte, _)| std::ptr::eq(*cte, query))
        {
            around.seen += 1;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let Some(name) = relation_name(relation) else { return ControlFlow::Continue(()) };
        let mut in_sight = self.around.iter().flat_map(|around| around.ctes.iter().take(around.seen));
        if !in_sight.any(|(_, cte)| *cte == name) {
            self.found.push((name, self.text.place(relation)));
        }
        ControlFlow::Continue(())
    }
}

/// The name of a relation, if it is one part.
pub(crate) fn relation_name(name: &ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] => Some(name_of(ident)),
        _ => None,
    }
}

/// A name as it is meant: lower case unless it is quoted.
pub(crate) fn name_of(ident: &datafusion_sql::sqlparser::ast::Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}
