//! Printing: the only file that writes to the terminal.

use std::io::{self, IsTerminal, Write};

use super::exit::Failure;

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ColorChoice {
    Auto,
    Always,
    Never,
}

/// Where output goes, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Out {
    /// Whether stdout takes colours.
    pub(super) color: bool,
    /// Whether stderr takes colours.
    pub(super) talk_color: bool,
    /// Whether somebody watches stderr, so that progress is worth drawing.
    pub(super) watched: bool,
}

impl Out {
    pub(super) fn new(choice: ColorChoice) -> Out {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let decide = |terminal: bool| match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !plain,
        };
        let watched = io::stderr().is_terminal();
        Out { color: decide(io::stdout().is_terminal()), talk_color: decide(watched), watched }
    }

    /// Writes data to stdout, as it is.
    pub(super) fn data(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()?;
        Ok(())
    }

    /// Writes a line of talk to stderr.
    pub(super) fn talk(&self, line: &str) {
        // Nobody is left to tell when stderr is closed.
        let _ = writeln!(io::stderr().lock(), "{}", line.trim_end_matches('\n'));
    }

    /// Says why a verb failed.
    pub(super) fn failure(&self, failure: &Failure) {
        if failure.message.is_empty() {
            return;
        }
        self.talk(&format!("{} {}", self.bold_red("error:"), failure.message));
        if let Some(hint) = &failure.hint {
            self.talk(&format!("{} {hint}", self.bold("hint:")));
        }
    }

    fn bold_red(&self, text: &str) -> String {
        if self.talk_color { format!("\u{1b}[1;31m{text}\u{1b}[0m") } else { text.into() }
    }

    fn bold(&self, text: &str) -> String {
        if self.talk_color { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.into() }
    }
}

/// Rows as columns that align; the last column is not padded. Widths are counted in characters.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|cell| cell.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    let mut line = |cells: &[String]| {
        let mut padded = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            padded.push_str(cell);
            padded.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        text.push_str(padded.trim_end());
        text.push('\n');
    };
    line(&head.iter().map(ToString::to_string).collect::<Vec<_>>());
    rows.iter().for_each(|row| line(row));
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_align_by_characters() {
        let rows = vec![vec!["Ólafur".into(), "1".into()], vec!["a".into(), "22".into()]];
        assert_eq!(super::table(&["NAME", "N"], &rows), "NAME    N\nÓlafur  1\na       22\n");
    }
}
