//! What the demo shows: chapters, commands and their output, matrices; colours only where somebody looks.

use std::io::IsTerminal as _;

use policy_lab::traffic::matrix::Matrix;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36;1";

fn painted(style: &str, text: &str) -> String {
    if std::io::stdout().is_terminal() { format!("\u{1b}[{style}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// A new part of the story.
pub fn chapter(title: &str) {
    println!("\n{}", painted(CYAN, &format!("━━ {title}")));
}

/// Something that came out as it should.
pub fn done(text: &str) {
    println!("{} {text}", painted(GREEN, "✔"));
}

/// Something that a person should know.
pub fn warning(text: &str) {
    println!("{} {text}", painted(YELLOW, "!"));
}

/// A command that is about to run.
pub fn command(text: &str) {
    println!("{} {}", painted(DIM, "$"), painted(BOLD, text));
}

/// Somebody's text, indented.
pub fn quote(text: &str) {
    for line in text.lines() {
        println!("    {}", painted(DIM, line));
    }
}

/// A program's output, indented.
pub fn output(text: &str) {
    for line in text.trim_end().lines() {
        println!("    {line}");
    }
}

/// A matrix: letters for what passes, dots for what does not.
pub fn matrix(matrix: &Matrix) {
    for line in matrix.to_string().lines() {
        let (name, cells) = line.split_at(line.find("  ").unwrap_or(line.len()));
        let is_row = name.contains('/');
        let cells: String = cells
            .chars()
            .map(|cell| match cell {
                '.' if is_row => painted(RED, "."),
                'T' | 'U' | 'I' if is_row => painted(GREEN, &cell.to_string()),
                't' | 'u' | 'i' if is_row => painted(YELLOW, &cell.to_string()),
                _ => cell.to_string(),
            })
            .collect();
        println!("    {name}{cells}");
    }
    let (allowed, denied) = matrix.counts();
    println!("    {}", painted(DIM, "T TCP, U UDP, I ping; . denied; small letters: some ports only"));
    println!("    {allowed} probes allowed, {denied} denied");
}
