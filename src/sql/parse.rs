//! A query's text to one `SELECT` of the parser, or the reason why it is not one.

use datafusion_sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName, ObjectNamePart,
    Query as AstQuery, Statement, Visit, Visitor, WindowSpec, WindowType,
};
use datafusion_sql::sqlparser::dialect::Dialect;
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};
use std::cell::Cell;
use std::ops::ControlFlow;

use super::codes;
use super::query::Emit;
use super::text::{Lexeme, Text, byte_of};
use super::windows;
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
    fn parse_prefix(&self, parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        self.steps.set(self.steps.get().saturating_sub(1));
        if self.exhausted() {
            return Some(Err(ParserError::RecursionLimitExceeded));
        }
        begins_table_argument(parser).then(|| table_argument(parser))
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

/// Whether `TABLE relation` follows as an argument of a window.
fn begins_table_argument(parser: &Parser<'_>) -> bool {
    let word = |token: &Token| if let Token::Word(word) = token { Some(word.value.to_lowercase()) } else { None };
    let unquoted = matches!(&parser.peek_nth_token_ref(0).token, Token::Word(word) if word.quote_style.is_none());
    let table = unquoted && word(&parser.peek_nth_token_ref(0).token).is_some_and(|word| word == "table");
    if !table || word(&parser.peek_nth_token_ref(1).token).is_none() {
        return false;
    }
    match parser.get_current_token().token {
        Token::RArrow => true,
        Token::LParen => word(&before_parenthesis(parser)).is_some_and(|name| windows::is_window(&name)),
        _ => false,
    }
}

/// The token before the parenthesis that the parser stands behind.
fn before_parenthesis(parser: &Parser<'_>) -> Token {
    let mut back = 2;
    loop {
        let Some(at) = parser.get_current_index().checked_sub(back - 1) else { return Token::EOF };
        match &parser.token_at(at).token {
            Token::Whitespace(_) => back += 1,
            token => return token.clone(),
        }
    }
}

/// `TABLE relation [PARTITION BY column, ..]` as a call without a name, which [`windows::table_argument`] knows.
fn table_argument(parser: &mut Parser<'_>) -> Result<Expr, ParserError> {
    let span = parser.next_token().span;
    let relation = parser.parse_identifier()?;
    let mut partition_by = Vec::new();
    if parser.parse_keywords(&[Keyword::PARTITION, Keyword::BY]) {
        loop {
            match parser.parse_expr()? {
                Expr::Tuple(columns) => partition_by.extend(columns),
                Expr::Nested(column) => partition_by.push(*column),
                column => partition_by.push(column),
            }
            // The next argument begins with DESCRIPTOR, or with its name.
            let next =
                matches!(&parser.peek_nth_token_ref(1).token, Token::Word(word) if word.value.eq_ignore_ascii_case("descriptor"));
            if next || parser.peek_nth_token_ref(2).token == Token::RArrow || !parser.consume_token(&Token::Comma) {
                break;
            }
        }
    }
    let arguments = FunctionArgumentList {
        duplicate_treatment: None,
        args: vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(relation)))],
        clauses: Vec::new(),
    };
    let over = WindowSpec { window_name: None, partition_by, order_by: Vec::new(), window_frame: None };
    Ok(Expr::Function(Function {
        name: ObjectName::from(vec![Ident { value: String::new(), quote_style: None, span }]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(arguments),
        filter: None,
        null_treatment: None,
        over: Some(WindowType::WindowSpec(over)),
        within_group: Vec::new(),
    }))
}

/// A query that was parsed.
pub(crate) struct Parsed<'a> {
    pub(crate) text: Text<'a>,
    pub(crate) query: AstQuery,
    /// EMIT at its end, and where it stands.
    pub(crate) emit: Option<(Emit, Place)>,
}

/// EMIT FINAL or EMIT CHANGES at the end of the text, and all other tokens: the parser knows no EMIT.
fn without_emit(text: &Text<'_>) -> (Option<(Emit, Place)>, Vec<TokenWithSpan>) {
    let is = |lexeme: &Lexeme, word: &str| matches!(&lexeme.token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word));
    let mut last = text.lexemes.iter().rev().skip_while(|lexeme| lexeme.token == Token::SemiColon);
    let (Some(what), Some(emit), Some(before)) = (last.next(), last.next(), last.next()) else {
        return (None, text.tokens.clone());
    };
    let found = [(Emit::Final, "FINAL"), (Emit::Changes, "CHANGES")].into_iter().find(|(_, word)| is(what, word));
    let Some((found, _)) = found.filter(|_| is(emit, "EMIT") && !is(before, "AS")) else { return (None, text.tokens.clone()) };
    let bytes = emit.bytes.start..what.bytes.end;
    let inside = |token: &TokenWithSpan| {
        let at = text.bytes(token.span);
        at.start >= bytes.start && at.end <= bytes.end && token.token != Token::EOF
    };
    let tokens = text.tokens.iter().filter(|token| !inside(token)).cloned().collect();
    (Some((found, text.sql.place(bytes.clone()))), tokens)
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
    let (emit, tokens) = without_emit(&text);
    let mut parser = Parser::new(&dialect).with_recursion_limit(MAX_DEPTH).with_tokens_with_locations(tokens);
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
        Statement::Query(query) => Ok(Parsed { text, query: *query, emit }),
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
        return diagnostic(codes::UNSUPPORTED, "EMIT FINAL or EMIT CHANGES stands at the very end of a query".into())
            .help("a sub-query's windows are always final; to see their changes, make a product of its own of it");
    }
    let what = what.trim_end_matches([':', ' ']).replace("Expected: ", "expected ").replace(", found: ", ", found ");
    let what = what.replace("found EOF", "found the end of the query");
    let mut chars = what.chars();
    let what = chars.next().map(|c| c.to_lowercase().chain(chars).collect::<String>()).unwrap_or_default();
    let diagnostic = diagnostic(codes::SYNTAX, format!("the SQL can't be parsed: {what}"));
    match window_example(text) {
        Some(example) => diagnostic.help(example),
        None => diagnostic,
    }
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

/// How the window that a text calls is written.
fn window_example(text: &Text<'_>) -> Option<String> {
    let names = text.lexemes.windows(2).filter_map(|pair| match pair {
        [Lexeme { token: Token::Word(word), .. }, Lexeme { token: Token::LParen, .. }] => Some(word.value.as_str()),
        _ => None,
    });
    names.into_iter().find(|name| windows::is_window(name)).map(windows::example)
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

impl Reads<'_> {
    /// A name in FROM that is not that of a sub-query in sight.
    fn reads(&mut self, name: String, place: Place) {
        let mut in_sight = self.around.iter().flat_map(|around| around.ctes.iter().take(around.seen));
        if !in_sight.any(|(_, cte)| *cte == name) {
            self.found.push((name, place));
        }
    }
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
        if let Some(name) = relation_name(relation) {
            self.reads(name, self.text.place(relation));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Some((relation, _)) = windows::table_argument(expr) {
            self.reads(name_of(relation), self.text.place_of(relation.span));
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
pub(crate) fn name_of(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}
