//! What people see: one line for each thing, coloured where the terminal can.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

use anstream::{eprintln, println};
use anstyle::{AnsiColor, Color, Style};

const GREEN: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Green))).bold();
const RED: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Red))).bold();
const YELLOW: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Yellow))).bold();
const CYAN: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Cyan))).bold();
const DIM: Style = Style::new().dimmed();

/// Whether standard output is for something else.
static ASIDE: AtomicBool = AtomicBool::new(false);

/// Sends all lines to standard error from now on: standard output is for a program that reads it.
pub fn aside() {
    ASIDE.store(true, Ordering::Relaxed);
}

fn line(text: fmt::Arguments<'_>) {
    if ASIDE.load(Ordering::Relaxed) { eprintln!("{text}") } else { println!("{text}") }
}

/// Work that starts now and takes a while.
pub fn step(what: &str) {
    line(format_args!("{CYAN}▸{CYAN:#} {what}"));
}

/// Work that ended well.
pub fn done(what: &str) {
    line(format_args!("{GREEN}✔{GREEN:#} {what}"));
}

/// A thing that was there already.
pub fn found(what: &str, which: &str) {
    line(format_args!("{GREEN}✔{GREEN:#} {what:<14} {DIM}{which}{DIM:#}"));
}

/// Work that ended badly.
pub fn failed(what: &str) {
    line(format_args!("{RED}✘{RED:#} {what}"));
}

/// Work that was not done.
pub fn skipped(what: &str) {
    line(format_args!("{YELLOW}∘{YELLOW:#} {what}"));
}

/// More about the line before or after.
pub fn detail(what: &str) {
    line(format_args!("  {what}"));
}

/// The one line that ends a failed command.
pub fn error(error: &anyhow::Error) {
    eprintln!("{RED}error:{RED:#} {error:#}");
}
