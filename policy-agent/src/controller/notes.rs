//! What is written on a policy about its issues, and what is new compared with what stands there.

use std::collections::{BTreeMap, BTreeSet};

use policy_core::model::{Issue, IssueCode, Level};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

/// The annotation.
pub const KEY: &str = "crosswall.dev/issues";
/// How many issues of a policy are told.
const MOST: usize = 20;
/// How long a message is at most, and a field, in bytes, in the annotation.
const TEXT_BYTES: usize = 400;
/// How long the note of an Event may be (`NoteLengthLimit` in k8s.io/kubernetes/pkg/apis/core/validation/events.go).
const NOTE_BYTES: usize = 1024;

/// An issue, as the annotation has it; the policy is the one that carries it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Note {
    code: IssueCode,
    level: Level,
    field: String,
    message: String,
}

/// All issues of a policy, as many as are told, worst first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    notes: Vec<Note>,
    /// How many more there are.
    more: usize,
}

/// An element of the annotation's list, as it is written.
#[derive(Serialize)]
#[serde(untagged)]
enum Element<'a> {
    Note(&'a Note),
    More { more: usize },
}

/// An element of a list that anybody may have written, or a newer version.
#[derive(Deserialize)]
#[serde(untagged)]
enum Found {
    Note(Note),
    More { more: usize },
    Other(IgnoredAny),
}

/// What is to be said in an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The issues that it tells of; `None`: that there are none.
    pub code: Option<IssueCode>,
    /// `Warning` or `Normal`.
    pub kind: &'static str,
    /// In CamelCase.
    pub reason: String,
    /// For a person.
    pub note: String,
}

impl Notes {
    /// Of these issues.
    pub fn of<'a>(issues: impl IntoIterator<Item = &'a Issue>) -> Self {
        let notes = issues
            .into_iter()
            .map(|Issue { code, level, object: _, field, message }| Note {
                code: *code,
                level: *level,
                field: shortened(field, TEXT_BYTES),
                message: shortened(message, TEXT_BYTES),
            })
            .collect();
        Self { notes, more: 0 }.in_order()
    }

    /// What an annotation says, no more than we would have written; of what nobody of us wrote, nothing.
    pub fn read(annotation: &str) -> Self {
        let elements: Vec<Found> = serde_json::from_str(annotation).unwrap_or_default();
        let mut read = Self::default();
        for element in elements {
            match element {
                Found::Note(Note { code, level, field, message }) if read.notes.len() < MOST => read.notes.push(Note {
                    code,
                    level,
                    field: shortened(&field, TEXT_BYTES),
                    message: shortened(&message, TEXT_BYTES),
                }),
                Found::More { more } => read.more = more,
                Found::Note(_) | Found::Other(_) => {}
            }
        }
        read
    }

    /// The annotation; `None`: there is nothing to be said.
    pub fn annotation(&self) -> Option<String> {
        if self.notes.is_empty() {
            return None;
        }
        let more = (self.more > 0).then_some(Element::More { more: self.more });
        let elements: Vec<Element<'_>> = self.notes.iter().map(Element::Note).chain(more).collect();
        serde_json::to_string(&elements).ok()
    }

    /// These, but of what is not certain now, what was known.
    pub fn or_known(mut self, known: &Self, is_certain: impl Fn(IssueCode) -> bool) -> Self {
        self.notes.retain(|note| is_certain(note.code));
        self.notes.extend(known.notes.iter().filter(|note| !is_certain(note.code)).cloned());
        self.in_order()
    }

    fn in_order(mut self) -> Self {
        self.notes.sort_by(|a, b| (a.level, a).cmp(&(b.level, b)));
        self.notes.dedup();
        self.more = self.more.saturating_add(self.notes.len().saturating_sub(MOST));
        self.notes.truncate(MOST);
        self
    }

    /// Takes in that an announcement about `notes` was made.
    pub fn announced(&mut self, announcement: &Announcement, notes: &Self) {
        match announcement.code {
            None => *self = Self::default(),
            Some(code) => self.notes.extend(notes.notes.iter().filter(|note| note.code == code).cloned()),
        }
    }

    fn places(&self) -> impl Iterator<Item = (IssueCode, &str)> {
        self.notes.iter().map(|note| (note.code, &*note.field))
    }

    /// What to say where `known` was said before: what came, each kind once, and that all is well again. A message that
    /// only counts otherwise is no news.
    pub fn news(&self, known: &Self) -> Vec<Announcement> {
        if self.notes.is_empty() {
            let mended = Announcement {
                code: None,
                kind: "Normal",
                reason: "IssuesMended".to_owned(),
                note: "nothing is wrong with the policy any more".to_owned(),
            };
            return if known.notes.is_empty() { Vec::new() } else { vec![mended] };
        }
        let places: BTreeSet<_> = known.places().collect();
        let mut came: BTreeMap<IssueCode, Vec<&Note>> = BTreeMap::new();
        for note in self.notes.iter().filter(|note| !places.contains(&(note.code, &*note.field))) {
            came.entry(note.code).or_default().push(note);
        }
        came.into_iter().map(|(code, notes)| announcement(code, &notes)).collect()
    }
}

fn announcement(code: IssueCode, notes: &[&Note]) -> Announcement {
    let told = notes.first().map_or_else(String::new, |note| match note.field.as_str() {
        "" => note.message.clone(),
        field => format!("{field}: {}", note.message),
    });
    let more = match notes.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more like it)", count - 1),
    };
    let note = shortened(&told, NOTE_BYTES - more.len()) + &more;
    Announcement { code: Some(code), kind: "Warning", reason: camel_case(code), note }
}

/// A code as reasons of Events are spelt.
fn camel_case(code: IssueCode) -> String {
    // By name, as JSON has it.
    let name = serde_json::to_value(code).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
    let words = name.split('_').map(|word| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_uppercase() + rest
    });
    words.collect()
}

/// At most so many bytes of a text, whole characters, of which none moves the cursor or turns the line of a terminal.
pub fn shortened(text: &str, bytes: usize) -> String {
    const REST: &str = "…";
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let text = text.replace(|c: char| c.is_control() || turns(c), " ");
    if text.len() <= bytes {
        return text;
    }
    let end = text.floor_char_boundary(bytes.saturating_sub(REST.len()));
    format!("{}{REST}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(code: IssueCode, field: &str, message: &str) -> Issue {
        let level = if code == IssueCode::UnreadableRule { Level::Error } else { Level::Warning };
        let object = "a/NetworkPolicy/shop/web".to_owned();
        Issue { code, level, object, field: field.to_owned(), message: message.to_owned() }
    }

    #[test]
    fn an_annotation_says_what_is_wrong_worst_first_and_can_be_read_again() {
        let (error, lint) =
            (issue(IssueCode::UnreadableRule, "spec.ingress[0]", "x"), issue(IssueCode::MaskedHostBits, "f", "m"));
        let notes = Notes::of([&lint, &error, &error]);
        let annotation = notes.annotation().expect("two");
        let expect = r#"[{"code":"unreadable_rule","level":"error","field":"spec.ingress[0]","message":"x"},{"code":"masked_host_bits","level":"warning","field":"f","message":"m"}]"#;
        assert_eq!(annotation, expect);
        assert_eq!(Notes::read(&annotation), notes);
        assert_eq!(Notes::of([]).annotation(), None);
        assert_eq!(Notes::read("no JSON"), Notes::default());
    }

    #[test]
    fn however_much_is_wrong_the_annotation_is_bounded_and_counts_the_rest() {
        let long = "ü".repeat(5000);
        let issues: Vec<Issue> =
            (0..1000).map(|at| issue(IssueCode::UnreadableRule, &format!("spec.ingress[{at:03}]"), &long)).collect();
        let annotation = Notes::of(&issues).annotation().expect("many");
        assert!(annotation.len() < 16 << 10, "{}", annotation.len());
        assert!(annotation.ends_with(r#",{"more":980}]"#), "{annotation}");
        assert_eq!(Notes::read(&annotation), Notes::of(&issues));
        let news = Notes::of(&issues).news(&Notes::default());
        assert_eq!(news.len(), 1, "each kind once");
        assert!(news[0].note.len() <= NOTE_BYTES && news[0].note.ends_with("… (and 19 more like it)"), "{news:?}");
    }

    #[test]
    fn only_what_came_is_news_and_that_all_is_well_again() {
        let (a, b) = (issue(IssueCode::UnreadableRule, "f", "x"), issue(IssueCode::PeerWouldWiden, "g", "3 pods"));
        let reasons = |now: &Notes, before: &Notes| {
            now.news(before).into_iter().map(|it| (it.kind, it.reason, it.note)).collect::<Vec<_>>()
        };
        let (none, one, both) = (Notes::default(), Notes::of([&a]), Notes::of([&a, &b]));
        assert_eq!(reasons(&one, &none), [("Warning", "UnreadableRule".to_owned(), "f: x".to_owned())]);
        assert_eq!(reasons(&both, &one), [("Warning", "PeerWouldWiden".to_owned(), "g: 3 pods".to_owned())]);
        assert_eq!(reasons(&one, &both), [], "one of two is mended: something is wrong still");
        let counted = issue(IssueCode::PeerWouldWiden, "g", "4 pods");
        assert_eq!(reasons(&Notes::of([&a, &counted]), &both), []);
        assert_eq!(reasons(&none, &both)[0].1, "IssuesMended");
        assert_eq!(reasons(&none, &none), []);
    }

    #[test]
    fn what_is_not_certain_stays_as_it_was_known_and_the_rest_does_not() {
        let is_certain = |code: IssueCode| !code.rests_on_all_members();
        let local = issue(IssueCode::UnreadableRule, "f", "x");
        let wide = issue(IssueCode::PeerWouldWiden, "g", "pods of b");
        let dns = issue(IssueCode::DnsIsolated, "h", "m");
        let known = Notes::of([&local, &wide]);
        assert_eq!(Notes::of([]).or_known(&known, is_certain), Notes::of([&wide]), "what is mended locally is mended");
        assert_eq!(Notes::of([&dns]).or_known(&known, is_certain), Notes::of([&wide]), "what may be a gap is no news");
        assert_eq!(Notes::of([&local]).or_known(&Notes::default(), is_certain), Notes::of([&local]));
    }

    #[test]
    fn what_anybody_writes_there_is_read_without_harm() {
        let issue = issue(IssueCode::SplitPeer, "f", "m");
        let ours = Notes::of([&issue]);
        let annotation = ours.annotation().expect("one");
        for nothing in ["", "no JSON", "{}", "null", "7", "[[[[", &"[".repeat(100_000), r#"[{"more":-1}]"#, "\u{0}"] {
            assert_eq!(Notes::read(nothing), Notes::default(), "{}", &nothing[..nothing.len().min(20)]);
        }
        // Of a newer version, or of somebody's mind.
        let strange = annotation.replace("[{", r#"[7, {"code":"not_yet","level":"error","field":"","message":""}, {"#);
        assert_eq!(Notes::read(&strange), ours);
        let huge = r#"{"code":"split_peer","level":"error","field":"F","message":"M"}"#;
        let huge = huge.replace('F', &"f".repeat(9000)).replace('M', &"m".repeat(9000));
        let huge = format!(r#"[{}, {{"more":18446744073709551615}}]"#, vec![huge; 30].join(","));
        let read = Notes::read(&huge);
        assert!(read.annotation().expect("some").len() < 20 << 10, "no more than we would have written");
        assert_eq!(ours.news(&read).len(), 1);
        assert_eq!(read.or_known(&ours, |_| false).more, usize::MAX, "nor is counted beyond what can be");
    }

    #[test]
    fn no_text_reaches_a_terminal_as_more_than_text() {
        let issue = issue(IssueCode::UnreadableRule, "f\u{1b}[2J", "a\r\nb\u{202e}c\u{7f}");
        let [news] = Notes::of([&issue]).news(&Notes::default()).try_into().expect("one");
        assert_eq!(news.note, "f [2J: a  b c ");
    }
}
