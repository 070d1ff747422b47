//! What people see: one line for each thing, coloured where the terminal can.

use anstream::{eprintln, println};
use anstyle::{AnsiColor, Color, Style};

const GREEN: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Green))).bold();
const RED: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Red))).bold();
const YELLOW: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Yellow))).bold();
const CYAN: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Cyan))).bold();
const DIM: Style = Style::new().dimmed();

/// Work that starts now and takes a while.
pub fn step(what: &str) {
    println!("{CYAN}▸{CYAN:#} {what}");
}

/// Work that ended well.
pub fn done(what: &str) {
    println!("{GREEN}✔{GREEN:#} {what}");
}

/// A thing that was there already.
pub fn found(what: &str, which: &str) {
    println!("{GREEN}✔{GREEN:#} {what:<14} {DIM}{which}{DIM:#}");
}

/// Work that ended badly.
pub fn failed(what: &str) {
    println!("{RED}✘{RED:#} {what}");
}

/// Work that was not done.
pub fn skipped(what: &str) {
    println!("{YELLOW}∘{YELLOW:#} {what}");
}

/// More about the line before or after.
pub fn detail(what: &str) {
    println!("  {what}");
}

/// The one line that ends a failed command.
pub fn error(error: &anyhow::Error) {
    eprintln!("{RED}error:{RED:#} {error:#}");
}
