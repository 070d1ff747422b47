//! Walking a document with the path at hand, so that whatever cannot be read is said with the field's name.

use std::fmt;

use policy_core::model::{Issue, IssueCode, Level};
use serde_json::{Map, Value};

/// A value in a document, and how it was reached.
///
/// A member that is `null` counts as absent, as `kubectl get -o yaml` writes it.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    value: &'a Value,
    step: Step<'a>,
    parent: Option<&'a At<'a>>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Member(&'a str),
    Element(usize),
}

/// Proof that something could not be read and that [`Notes`] say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unread;

impl<'a> At<'a> {
    /// The document itself.
    pub(crate) fn root(value: &'a Value) -> Self {
        Self { value, step: Step::Root, parent: None }
    }

    /// The value itself.
    pub(crate) fn value(&self) -> &'a Value {
        self.value
    }

    /// The member `name`; absent where this is no object, or where the member is `null`.
    pub(crate) fn get<'b>(&'b self, name: &'b str) -> Option<At<'b>> {
        let value = self.value.as_object()?.get(name)?;
        (!value.is_null()).then_some(At { value, step: Step::Member(name), parent: Some(self) })
    }

    /// The place of the member `name`, to speak about it; `null` where it is absent.
    pub(crate) fn member<'b>(&'b self, name: &'b str) -> At<'b> {
        let value = self.value.get(name).unwrap_or(&Value::Null);
        At { value, step: Step::Member(name), parent: Some(self) }
    }

    /// The members of an object in written order, those that are `null` included.
    pub(crate) fn members<'b>(
        &'b self,
        notes: &mut Notes<'_>,
    ) -> Result<impl Iterator<Item = At<'b>> + use<'a, 'b>, Unread> {
        let map = self.map(notes)?;
        Ok(map.iter().map(|(name, value)| At { value, step: Step::Member(name), parent: Some(self) }))
    }

    /// The elements of a list.
    pub(crate) fn elements<'b>(&'b self, notes: &mut Notes<'_>) -> Result<Vec<At<'b>>, Unread> {
        let Value::Array(list) = self.value else {
            return Err(self.wrong_type("a list", notes));
        };
        let element = |(at, value)| At { value, step: Step::Element(at), parent: Some(self) };
        Ok(list.iter().enumerate().map(element).collect())
    }

    /// An object's members.
    pub(crate) fn map(&self, notes: &mut Notes<'_>) -> Result<&'a Map<String, Value>, Unread> {
        self.value.as_object().ok_or_else(|| self.wrong_type("an object", notes))
    }

    /// A string.
    pub(crate) fn string(&self, notes: &mut Notes<'_>) -> Result<&'a str, Unread> {
        self.value.as_str().ok_or_else(|| self.wrong_type("a string", notes))
    }

    /// A truth value.
    pub(crate) fn boolean(&self, notes: &mut Notes<'_>) -> Result<bool, Unread> {
        self.value.as_bool().ok_or_else(|| self.wrong_type("true or false", notes))
    }

    /// A port number.
    pub(crate) fn port_number(&self, notes: &mut Notes<'_>) -> Result<u16, Unread> {
        let number = self.value.as_u64().and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0);
        number.ok_or_else(|| self.wrong_type("a whole number from 1 to 65535", notes))
    }

    /// The last member name of the path.
    pub(crate) fn name(&self) -> &'a str {
        match self.step {
            Step::Member(name) => name,
            Step::Root | Step::Element(_) => "",
        }
    }

    /// Notes every member with a value that is not `known`; one of them makes this unreadable.
    pub(crate) fn only(&self, known: &[&str], notes: &mut Notes<'_>) -> Result<(), Unread> {
        self.refuse_others(known, |value| !value.is_null(), notes)
    }

    /// As [`At::only`], but a name that is not known is refused without a value too: in a file that people write for us
    /// it is a typing error.
    pub(crate) fn only_names(&self, known: &[&str], notes: &mut Notes<'_>) -> Result<(), Unread> {
        self.refuse_others(known, |_| true, notes)
    }

    fn refuse_others(&self, known: &[&str], counts: fn(&Value) -> bool, notes: &mut Notes<'_>) -> Result<(), Unread> {
        let mut read = Ok(());
        for member in self.members(notes)? {
            if counts(member.value) && !known.contains(&member.name()) {
                let known = known.join(", ");
                read = Err(notes.unreadable(&member, format_args!("is no field that is known here ({known})")));
            }
        }
        read
    }

    /// The value as a person recognizes it, shortened.
    pub(crate) fn shown(&self) -> String {
        let kind = match self.value {
            Value::Null => return "null".to_owned(),
            Value::Array(_) => return "a list".to_owned(),
            Value::Object(_) => return "an object".to_owned(),
            Value::Bool(_) => "",
            Value::Number(_) => "the number ",
            Value::String(_) => "the string ",
        };
        let mut text = self.value.to_string();
        if let Some((cut, _)) = text.char_indices().nth(80) {
            text.truncate(cut);
            text.push('…');
        }
        format!("{kind}{text}")
    }

    fn wrong_type(&self, wanted: &str, notes: &mut Notes<'_>) -> Unread {
        if let (Value::Null, Step::Member(_)) = (self.value, self.step) {
            return notes.unreadable(self, format_args!("is missing; it must be {wanted}"));
        }
        let hint = match self.value {
            Value::Number(_) | Value::Bool(_) if wanted == "a string" => "; quote it",
            _ => "",
        };
        notes.unreadable(self, format_args!("must be {wanted}, not {}{hint}", self.shown()))
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        let first = self.parent.is_none_or(|parent| matches!(parent.step, Step::Root));
        match self.step {
            Step::Root => Ok(()),
            Step::Element(at) => write!(f, "[{at}]"),
            Step::Member(name) if !is_plain(name) => write!(f, "[{name}]"),
            Step::Member(name) if first => f.write_str(name),
            Step::Member(name) => write!(f, ".{name}"),
        }
    }
}

/// The elements of a list that may be absent.
pub(crate) fn elements_of<'b>(list: Option<&'b At<'b>>, notes: &mut Notes<'_>) -> Result<Vec<At<'b>>, Unread> {
    list.map_or(Ok(Vec::new()), |list| list.elements(notes))
}

/// Adds to a list that is lost as a whole when one of its parts is; the rest is still read for its issues.
pub(crate) fn collect<T>(list: &mut Result<Vec<T>, Unread>, read: Result<T, Unread>) {
    match (list.as_mut(), read) {
        (Ok(list), Ok(item)) => list.push(item),
        (Ok(_), Err(unread)) => *list = Err(unread),
        (Err(_), _) => (),
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// What was found wrong with one object.
pub(crate) struct Notes<'o> {
    object: &'o dyn fmt::Display,
    code: IssueCode,
    level: Level,
    issues: Vec<Issue>,
}

impl<'o> Notes<'o> {
    /// None yet; what cannot be read of `object` is an error of kind `code`.
    pub(crate) fn new(object: &'o dyn fmt::Display, code: IssueCode) -> Self {
        Self { object, code, level: Level::Error, issues: Vec::new() }
    }

    /// All that was noted.
    pub(crate) fn into_issues(self) -> Vec<Issue> {
        self.issues
    }

    /// Runs `read` with another meaning of what cannot be read.
    pub(crate) fn under<T>(&mut self, code: IssueCode, level: Level, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = (self.code, self.level);
        (self.code, self.level) = (code, level);
        let result = read(self);
        (self.code, self.level) = before;
        result
    }

    /// Notes that what stands `at` this place cannot be read.
    pub(crate) fn unreadable(&mut self, at: &At<'_>, message: impl fmt::Display) -> Unread {
        self.push(self.code, self.level, at, &message);
        Unread
    }

    /// Notes something that can be read, but is probably not meant.
    pub(crate) fn warn(&mut self, code: IssueCode, at: &At<'_>, message: impl fmt::Display) {
        self.push(code, Level::Warning, at, &message);
    }

    fn push(&mut self, code: IssueCode, level: Level, at: &At<'_>, message: &dyn fmt::Display) {
        self.issues.push(Issue {
            code,
            level,
            object: self.object.to_string(),
            field: at.to_string(),
            message: message.to_string(),
        });
    }
}
