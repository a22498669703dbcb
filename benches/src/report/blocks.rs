//! The parts of a report, and how Markdown and HTML write them.

use turnwire_load::html::{escape, html_table};

/// One part.
pub(crate) enum Block {
    Heading(String),
    Text(String),
    /// Something that a reader must know before the numbers.
    Note(String),
    /// The first row is the head.
    Table(Vec<Vec<String>>),
    /// A caption, and an SVG element. HTML only.
    Figure(String, String),
}

/// A heading.
pub(crate) fn heading(text: impl Into<String>) -> Block {
    Block::Heading(text.into())
}

/// A paragraph.
pub(crate) fn text(text: impl Into<String>) -> Block {
    Block::Text(text.into())
}

/// A table.
pub(crate) fn table(rows: Vec<Vec<String>>) -> Block {
    Block::Table(rows)
}

impl Block {
    /// With an empty line after it.
    pub(crate) fn markdown(&self) -> String {
        match self {
            Block::Heading(text) => format!("### {text}\n\n"),
            Block::Text(text) => format!("{text}\n\n"),
            Block::Note(text) => format!("**{text}**\n\n"),
            Block::Figure(..) => String::new(),
            Block::Table(rows) => {
                let line = |row: &Vec<String>| {
                    let cells = row.iter().map(|cell| cell.replace('|', "\\|"));
                    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
                };
                let mut lines = rows.iter().map(line);
                let head = lines.next().unwrap_or_default();
                let rule = "|---".repeat(rows.first().map_or(0, Vec::len));
                format!("{head}{rule}|\n{}\n", lines.collect::<String>())
            }
        }
    }

    /// As an element.
    pub(crate) fn html(&self) -> String {
        match self {
            Block::Heading(text) => format!("<h2>{}</h2>\n", escape(text)),
            Block::Text(text) => format!("<p>{}</p>\n", escape(&text.replace('`', ""))),
            Block::Note(text) => format!("<p class=\"note\">{}</p>\n", escape(text)),
            Block::Figure(caption, svg) => {
                format!("<p><b>{}</b></p>\n{svg}\n", escape(caption))
            }
            Block::Table(rows) => html_table(rows) + "\n",
        }
    }
}
