//! The few shapes that pictures are made of.

use std::fmt::Write as _;

/// The colour of words and of quartiles.
pub const INK: &str = "#222222";
/// The colour of words that can be passed over.
pub const PALE: &str = "#6b7683";
/// The colour of budgets.
pub const BOUND: &str = "#a00000";

/// On which side of its place a text is.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

impl Anchor {
    fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

/// A picture in the making; places are (from the left, from the top).
pub struct Svg(String);

impl Svg {
    /// An empty sheet.
    pub fn new(width: f64, height: f64) -> Self {
        Self(format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">
<rect width="{width}" height="{height}" fill="#ffffff"/>
"##
        ))
    }

    /// A line of text.
    pub fn text(&mut self, place: (f64, f64), anchor: Anchor, content: &str) {
        self.styled_text(place, anchor, "", content);
    }

    /// A line of text with attributes of its own.
    pub fn styled_text(&mut self, (x, y): (f64, f64), anchor: Anchor, style: &str, content: &str) {
        let content = content.replace('&', "&amp;").replace('<', "&lt;");
        let (x, y, anchor) = (fixed(x), fixed(y), anchor.as_str());
        let gap = if style.is_empty() { "" } else { " " };
        let _infallible =
            writeln!(self.0, r#"<text x="{x}" y="{y}" text-anchor="{anchor}"{gap}{style}>{content}</text>"#);
    }

    /// A full rectangle.
    pub fn bar(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), colour: &str) {
        let (x, y, width) = (fixed(x), fixed(y), fixed(width));
        let _infallible =
            writeln!(self.0, r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{colour}"/>"#);
    }

    /// A line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str) {
        self.styled_line(from, to, colour, "");
    }

    /// A line with attributes of its own.
    pub fn styled_line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str, style: &str) {
        let [x1, y1, x2, y2] = [x1, y1, x2, y2].map(fixed);
        let gap = if style.is_empty() { "" } else { " " };
        let _infallible =
            writeln!(self.0, r#"<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}"{gap}{style}/>"#);
    }

    /// A full triangle.
    pub fn triangle(&mut self, corners: [(f64, f64); 3], colour: &str) {
        let points = corners.map(|(x, y)| format!("{},{}", fixed(x), fixed(y))).join(" ");
        let _infallible = writeln!(self.0, r#"<polygon points="{points}" fill="{colour}"/>"#);
    }

    /// The picture.
    pub fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

fn fixed(number: f64) -> String {
    format!("{number:.1}")
}
