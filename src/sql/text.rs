//! A query's text with its tokens: where each byte stands, and whether it is small enough to be parsed.

use std::ops::Range;

use datafusion_sql::sqlparser::ast::{CastKind, Expr, Spanned, UnaryOperator};
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::tokenizer::{Location, Span, Token, Tokenizer};

use super::codes;
use super::parse::MeshDialect;
use crate::model::diagnostic::{Diagnostic, Place};
use crate::model::product::SqlText;

/// The longest text of a query, in bytes.
pub(crate) const MAX_BYTES: usize = 256 * 1024;
/// How deep an expression's tree may be. Operators in a row (`a + b + c`) make it one level deeper each.
pub(crate) const MAX_CHAIN: usize = 1000;
/// How many tokens may stand between two commas, WHENs or clauses at one level of parentheses.
const MAX_RUN: usize = 10_000;
/// How many SELECTs may be chained by UNION and its like.
const MAX_SET_OPERATIONS: usize = 50;

/// A token that means something, with its range of bytes.
#[derive(Debug, Clone)]
pub(crate) struct Lexeme {
    pub(crate) token: Token,
    pub(crate) bytes: Range<usize>,
}

/// A query's text, its tokens without spaces and comments, and the way from the parser's positions to bytes.
#[derive(Debug)]
pub(crate) struct Text<'a> {
    pub(crate) sql: &'a SqlText,
    pub(crate) lexemes: Vec<Lexeme>,
    /// All tokens with their positions, as the parser wants them.
    pub(crate) tokens: Vec<datafusion_sql::sqlparser::tokenizer::TokenWithSpan>,
    /// Bytes of token borders, by line and column.
    marks: Vec<(Location, usize)>,
}

impl<'a> Text<'a> {
    /// Splits the text into tokens. Errors: not SQL at all (an open quote), or larger than the bounds of this file.
    pub(crate) fn read(sql: &'a SqlText) -> Result<Self, Box<Diagnostic>> {
        let text: &str = &sql.text;
        if text.len() > MAX_BYTES {
            let message = format!("the query is {} bytes long, more than {MAX_BYTES}", text.len());
            let help = "split it into several products";
            return Err(Box::new(Diagnostic::error(codes::TOO_LARGE, sql.place(0..0), message).help(help)));
        }
        let tokens = Tokenizer::new(&MeshDialect::for_tokens(0), text).tokenize_with_location().map_err(|e| {
            let at = byte_of(text, e.location).min(text.len());
            let message = e.message.trim_end().to_lowercase();
            Box::new(Diagnostic::error(codes::SYNTAX, sql.place(at..text.len().min(at + 1)), message))
        })?;
        let marks = marks(text, &tokens);
        let mut text = Text { sql, lexemes: Vec::new(), tokens, marks };
        text.lexemes = text
            .tokens
            .iter()
            .filter(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF))
            .map(|t| Lexeme { token: t.token.clone(), bytes: text.bytes(t.span) })
            .collect();
        text.check_size()?;
        Ok(text)
    }

    /// The range of bytes of the parser's span; an unknown one is the whole text's start.
    pub(crate) fn bytes(&self, span: Span) -> Range<usize> {
        let start = self.byte(span.start);
        let end = self.byte(span.end);
        start..end.max(start)
    }

    fn byte(&self, location: Location) -> usize {
        match self.marks.binary_search_by(|(mark, _)| mark.cmp(&location)) {
            Ok(at) => self.marks.get(at).map_or(0, |m| m.1),
            Err(at) => at.checked_sub(1).and_then(|at| self.marks.get(at)).map_or(0, |m| m.1),
        }
    }

    /// The place of a part of the query; `None` if the parser does not know where it stands.
    pub(crate) fn known_place(&self, part: &impl Spanned) -> Option<Place> {
        let span = part.span();
        (span.start.line > 0).then(|| self.sql.place(self.balanced(self.bytes(span))))
    }

    /// The place of an expression with the words that it begins with, which the parser's spans leave out.
    pub(crate) fn place_of_expr(&self, expr: &Expr) -> Option<Place> {
        let words: &[&str] = match expr {
            Expr::Cast { kind: CastKind::Cast, .. } => &["CAST"],
            Expr::Cast { kind: CastKind::TryCast, .. } => &["TRY_CAST"],
            Expr::Cast { kind: CastKind::SafeCast, .. } => &["SAFE_CAST"],
            Expr::Interval(_) => &["INTERVAL"],
            Expr::TypedString(_) => &["DATE", "TIME", "TIMESTAMP"],
            Expr::UnaryOp { op: UnaryOperator::Not, .. } => &["NOT"],
            Expr::Ceil { .. } | Expr::Floor { .. } => &["CEIL", "CEILING", "FLOOR"],
            Expr::Extract { .. } => &["EXTRACT"],
            Expr::Substring { .. } => &["SUBSTRING", "SUBSTR"],
            Expr::Trim { .. } => &["TRIM"],
            Expr::Position { .. } => &["POSITION"],
            Expr::Overlay { .. } => &["OVERLAY"],
            Expr::Exists { .. } => &["EXISTS"],
            Expr::Rollup(_) | Expr::Cube(_) | Expr::GroupingSets(_) => &["ROLLUP", "CUBE", "GROUPING"],
            _ => return self.known_place(expr),
        };
        let span = expr.span();
        if span.start.line == 0 {
            return None;
        }
        let bytes = self.bytes(span);
        let before = self.lexemes.iter().take_while(|lexeme| lexeme.bytes.start < bytes.start);
        let start = before.filter(|lexeme| is_word(&lexeme.token, words)).last().map_or(bytes.start, |lexeme| lexeme.bytes.start);
        Some(self.sql.place(self.balanced(start..bytes.end)))
    }

    /// The place of a part of the query, or the query's start.
    pub(crate) fn place(&self, part: &impl Spanned) -> Place {
        self.known_place(part).unwrap_or_else(|| self.start())
    }

    /// The place of the parser's span.
    pub(crate) fn place_of(&self, span: Span) -> Place {
        self.sql.place(self.bytes(span))
    }

    /// The place of the last word that is one of `words`, or the query's start.
    pub(crate) fn place_of_last_word(&self, words: &[&str]) -> Place {
        let last = self.lexemes.iter().rfind(|lexeme| is_word(&lexeme.token, words));
        last.map_or_else(|| self.start(), |lexeme| self.sql.place(lexeme.bytes.clone()))
    }

    /// The place of the first word at or after byte `from` that is one of `words`.
    pub(crate) fn place_of_word_after(&self, words: &[&str], from: usize) -> Place {
        self.word(words, from).map_or_else(|| self.start(), |lexeme| self.sql.place(lexeme.bytes.clone()))
    }

    fn word(&self, words: &[&str], from: usize) -> Option<&Lexeme> {
        self.lexemes.iter().find(|lexeme| lexeme.bytes.start >= from && is_word(&lexeme.token, words))
    }

    /// The place of the last word before byte `end` that is one of `words`, or the query's start.
    pub(crate) fn place_of_word_before(&self, words: &[&str], end: usize) -> Place {
        let before = self.lexemes.iter().take_while(|lexeme| lexeme.bytes.start < end);
        let last = before.filter(|lexeme| is_word(&lexeme.token, words)).last();
        last.map_or_else(|| self.start(), |lexeme| self.sql.place(lexeme.bytes.clone()))
    }

    /// The bytes between the parentheses around byte `at`; those of the whole text where there are none.
    pub(crate) fn block(&self, at: usize) -> Range<usize> {
        let here = self.lexemes.partition_point(|lexeme| lexeme.bytes.start < at);
        let (before, behind) = self.lexemes.split_at(here.min(self.lexemes.len()));
        let mut closed = 0usize;
        let opening = before.iter().rev().find(|lexeme| unmatched(&lexeme.token, &mut closed, true));
        let mut open = 0usize;
        let closing = behind.iter().find(|lexeme| unmatched(&lexeme.token, &mut open, false));
        let start = opening.map_or(0, |lexeme| lexeme.bytes.end);
        start..closing.map_or(self.sql.text.len(), |lexeme| lexeme.bytes.start).max(start)
    }

    /// The bytes of the SELECT that byte `at` stands in: a part of its block, from one UNION to the next.
    pub(crate) fn arm(&self, at: usize) -> Range<usize> {
        let block = self.block(at);
        let mut arm = block.clone();
        for lexeme in self.outer(&block).filter(|lexeme| is_word(&lexeme.token, &["UNION", "EXCEPT", "MINUS", "INTERSECT"])) {
            // The list of a `*` may begin with EXCEPT too, in parentheses or before a name.
            if lexeme.bytes.start < at {
                arm.start = lexeme.bytes.end;
            } else if self.follows_set_operation(lexeme) {
                arm.end = lexeme.bytes.start;
                break;
            }
        }
        arm
    }

    /// Whether a SELECT stands behind UNION or its like.
    fn follows_set_operation(&self, word: &Lexeme) -> bool {
        let behind = self.lexemes.iter().skip_while(|lexeme| lexeme.bytes.start <= word.bytes.start);
        let mut behind = behind
            .skip_while(|lexeme| lexeme.token == Token::LParen || is_word(&lexeme.token, &["ALL", "DISTINCT", "BY", "NAME"]));
        behind.next().is_some_and(|lexeme| is_word(&lexeme.token, &["SELECT", "WITH", "VALUES", "TABLE"]))
    }

    /// The tokens of a range but those in parentheses inside it.
    fn outer<'t>(&'t self, range: &Range<usize>) -> impl Iterator<Item = &'t Lexeme> + use<'t> {
        let (start, end) = (range.start, range.end);
        let mut depth = 0usize;
        let inside = self.lexemes.iter().skip_while(move |l| l.bytes.start < start).take_while(move |l| l.bytes.start < end);
        inside.filter(move |lexeme| {
            match lexeme.token {
                Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
                Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
                _ => return depth == 0,
            }
            false
        })
    }

    /// The place of the first word of a range, but for parentheses inside it, that is one of `words`, or the range's start.
    pub(crate) fn place_of_first_in(&self, range: &Range<usize>, words: &[&str]) -> Place {
        self.place_or_start(self.outer(range).find(|lexeme| is_word(&lexeme.token, words)), range)
    }

    /// The same for the last word.
    pub(crate) fn place_of_last_in(&self, range: &Range<usize>, words: &[&str]) -> Place {
        self.place_or_start(self.outer(range).filter(|lexeme| is_word(&lexeme.token, words)).last(), range)
    }

    fn place_or_start(&self, found: Option<&Lexeme>, range: &Range<usize>) -> Place {
        let first = || self.lexemes.iter().find(|lexeme| lexeme.bytes.start >= range.start);
        found.or_else(first).map_or_else(|| self.start(), |lexeme| self.sql.place(lexeme.bytes.clone()))
    }

    /// The query's first token.
    pub(crate) fn start(&self) -> Place {
        self.sql.place(self.lexemes.first().map_or(0..0, |lexeme| lexeme.bytes.clone()))
    }

    /// The range, made longer until its parentheses close: the parser's spans of calls end before `)`, and those of
    /// sub-queries start behind `(`.
    fn balanced(&self, bytes: Range<usize>) -> Range<usize> {
        let mut open = 0usize;
        let mut unopened = 0usize;
        let mut end = bytes.end;
        let first = self.lexemes.partition_point(|lexeme| lexeme.bytes.start < bytes.start);
        for lexeme in self.lexemes.get(first..).unwrap_or_default() {
            let inside = lexeme.bytes.start < bytes.end;
            if !inside && open == 0 && !(first_is_call(lexeme, end, &bytes)) {
                break;
            }
            match lexeme.token {
                Token::LParen => open += 1,
                Token::RParen if open == 0 => unopened += 1,
                Token::RParen => open -= 1,
                _ => {}
            }
            if !inside {
                end = lexeme.bytes.end;
            }
        }
        let before = self.lexemes.get(..first).unwrap_or_default().iter().rev();
        let opening = before.take_while(|lexeme| lexeme.token == Token::LParen).take(unopened).last();
        opening.map_or(bytes.start, |lexeme| lexeme.bytes.start)..end
    }

    /// Bounds what makes trees deep, before anything recursive walks them.
    fn check_size(&self) -> Result<(), Box<Diagnostic>> {
        let too_large = |lexeme: &Lexeme, message: String, help: &str| {
            Err(Box::new(Diagnostic::error(codes::TOO_LARGE, self.sql.place(lexeme.bytes.clone()), message).help(help)))
        };
        let mut levels = vec![Level::default()];
        let mut set_operations = 0;
        let mut nested_types = 0;
        let mut before: Option<&Token> = None;
        for lexeme in &self.lexemes {
            match &lexeme.token {
                Token::LParen | Token::LBracket | Token::LBrace => levels.push(Level::default()),
                Token::RParen | Token::RBracket | Token::RBrace if levels.len() > 1 => {
                    let inner = levels.pop().unwrap_or_default();
                    if let Some(level) = levels.last_mut() {
                        level.depth = level.depth.max(inner.deepest.max(inner.depth) + 1);
                    }
                }
                _ => {}
            }
            let Some(level) = levels.last_mut() else { break };
            level.run += 1;
            match weight(&lexeme.token, before) {
                Weight::Separates => *level = Level { deepest: level.deepest.max(level.depth), ..Level::default() },
                Weight::Deepens => level.depth += 1,
                Weight::SetOperation => set_operations += 1,
                Weight::NestsType => nested_types += 1,
                Weight::Nothing => {}
            }
            if level.depth > MAX_CHAIN || level.run > MAX_RUN {
                let message = format!("an expression chains more than {MAX_CHAIN} operators or parentheses");
                return too_large(
                    lexeme,
                    message,
                    "write `x IN (..)` instead of a chain of OR, or split the query into several products",
                );
            }
            if set_operations > MAX_SET_OPERATIONS {
                return too_large(
                    lexeme,
                    format!("more than {MAX_SET_OPERATIONS} queries are combined"),
                    "split the query into several products",
                );
            }
            if nested_types > MAX_CHAIN {
                return too_large(
                    lexeme,
                    format!("more than {MAX_CHAIN} nested types are named"),
                    "split the query into several products",
                );
            }
            before = Some(&lexeme.token);
        }
        Ok(())
    }
}

/// What stands between two parentheses, so far.
#[derive(Default)]
struct Level {
    /// How deep the tree of the expression since the last separator can be: operators associate to the left, so each
    /// puts all before it one level deeper.
    depth: usize,
    /// The greatest depth of the expressions before.
    deepest: usize,
    /// Tokens since the last separator.
    run: usize,
}

/// Whether a parenthesis has no partner among those that were walked over, forwards or backwards.
fn unmatched(token: &Token, partners: &mut usize, backwards: bool) -> bool {
    let opens = matches!(token, Token::LParen | Token::LBracket | Token::LBrace);
    if !opens && !matches!(token, Token::RParen | Token::RBracket | Token::RBrace) {
        return false;
    }
    if opens != backwards {
        *partners += 1;
        return false;
    }
    let alone = *partners == 0;
    *partners = partners.saturating_sub(1);
    alone
}

/// Whether the token just after the range opens a call's arguments: the parser's span of `f()` is `f`.
fn first_is_call(lexeme: &Lexeme, end: usize, bytes: &Range<usize>) -> bool {
    lexeme.token == Token::LParen && lexeme.bytes.start == end && end == bytes.end
}

/// Whether a token is one of the words, in any case and not quoted.
fn is_word(token: &Token, words: &[&str]) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && words.iter().any(|w| word.value.eq_ignore_ascii_case(w)))
}

/// What a token does to the depth of the tree.
enum Weight {
    Nothing,
    Deepens,
    Separates,
    SetOperation,
    NestsType,
}

fn weight(token: &Token, before: Option<&Token>) -> Weight {
    match token {
        Token::Comma | Token::SemiColon => Weight::Separates,
        Token::Word(word) if word.quote_style.is_none() => match word.keyword {
            Keyword::WHEN | Keyword::THEN | Keyword::ELSE | Keyword::FROM | Keyword::WHERE | Keyword::ON | Keyword::JOIN => {
                Weight::Separates
            }
            Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::MINUS => Weight::SetOperation,
            Keyword::AND | Keyword::OR | Keyword::XOR | Keyword::NOT | Keyword::IS | Keyword::NOTNULL => Weight::Deepens,
            Keyword::IN | Keyword::BETWEEN | Keyword::LIKE | Keyword::ILIKE | Keyword::SIMILAR | Keyword::COLLATE => {
                Weight::Deepens
            }
            Keyword::AT | Keyword::DIV | Keyword::REGEXP | Keyword::RLIKE | Keyword::OVERLAPS | Keyword::MEMBER => {
                Weight::Deepens
            }
            _ => Weight::Nothing,
        },
        Token::Lt if matches!(before, Some(Token::Word(word)) if matches!(word.keyword, Keyword::ARRAY | Keyword::MAP | Keyword::STRUCT)) => {
            Weight::NestsType
        }
        Token::LBracket => Weight::NestsType,
        Token::Word(_) | Token::Number(..) | Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) => Weight::Nothing,
        Token::LParen | Token::RParen | Token::RBracket | Token::LBrace | Token::RBrace | Token::Period => Weight::Nothing,
        _ => Weight::Deepens,
    }
}

/// Bytes of the borders of all tokens, in one walk over the text.
fn marks(text: &str, tokens: &[datafusion_sql::sqlparser::tokenizer::TokenWithSpan]) -> Vec<(Location, usize)> {
    let mut wanted: Vec<Location> = tokens.iter().flat_map(|t| [t.span.start, t.span.end]).filter(|l| l.line > 0).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut marks = Vec::with_capacity(wanted.len());
    let mut wanted = wanted.into_iter().peekable();
    let mut here = Location { line: 1, column: 1 };
    let ends = std::iter::once((text.len(), '\0'));
    for (at, c) in text.char_indices().chain(ends) {
        while let Some(location) = wanted.next_if(|l| *l <= here) {
            marks.push((location, at));
        }
        here = after(here, c);
    }
    marks.extend(wanted.map(|location| (location, text.len())));
    marks
}

/// The position after a character, as the tokenizer counts.
fn after(here: Location, c: char) -> Location {
    if c == '\n' { Location { line: here.line + 1, column: 1 } } else { Location { line: here.line, column: here.column + 1 } }
}

/// The byte of one position.
pub(crate) fn byte_of(text: &str, location: Location) -> usize {
    let mut here = Location { line: 1, column: 1 };
    for (at, c) in text.char_indices() {
        if here >= location {
            return at;
        }
        here = after(here, c);
    }
    text.len()
}
