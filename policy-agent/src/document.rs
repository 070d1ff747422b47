//! From bytes to documents: YAML and JSON, several to a file, with limits on what a hostile file can cost.
//!
//! Both readers refuse an object that has a key twice, as the API server's strict decoding does. YAML is read as
//! YAML 1.2 has it: only `true` and `false` are truth values, so that a label `on` stays a string; a number with leading
//! zeros, which YAML 1.1 and 1.2 take differently, becomes a string too, which no port can be.

use std::fmt;
use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Budget, DuplicateKeyPolicy, NonFiniteFloatPolicy, Options};

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// YAML, of which JSON is a part.
    Yaml,
    /// JSON.
    Json,
}

/// Why a text is no sequence of documents, and in which line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

/// The largest file that is read.
pub const MAX_BYTES: usize = 256 << 20;

/// The content of a file, and what it was when it was opened. Nothing but a regular file is read: others may never end,
/// or never begin.
///
/// # Errors
///
/// Also if the file is, or becomes while it is read, larger than [`MAX_BYTES`].
pub fn read(path: &Path) -> io::Result<(Vec<u8>, Metadata)> {
    // Opening a pipe would otherwise wait for somebody who writes to it.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut content = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut content)?;
    if content.len() > MAX_BYTES {
        return Err(io::Error::other(format!("it is larger than {} MiB", MAX_BYTES >> 20)));
    }
    Ok((content, metadata))
}

/// Reads all documents of a file; empty ones are passed over.
pub fn parse(bytes: &[u8], format: Format) -> Result<Vec<Value>, ParseError> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
            return Err(ParseError(format!("text that is not UTF-8 at line {line}")));
        }
    };
    match format {
        Format::Yaml => parse_yaml(text),
        Format::Json => parse_json(text),
    }
}

fn parse_yaml(text: &str) -> Result<Vec<Value>, ParseError> {
    let read: Result<Vec<Document>, _> = serde_saphyr::from_multiple_with_options(text, yaml_options(text.len()));
    match read {
        Ok(documents) => Ok(documents.into_iter().map(|document| document.0).collect()),
        Err(error) => Err(ParseError(match error.without_snippet() {
            // Its own text advises how to call the reader.
            serde_saphyr::Error::DuplicateMappingKey { key, location } => {
                let key = key.as_deref().unwrap_or_default();
                format!("{} at line {}, column {}", twice(key), location.line(), location.column())
            }
            other => other.to_string(),
        })),
    }
}

/// The size of a file bounds what it may hold; what aliases may multiply is bounded by itself.
fn yaml_options(bytes: usize) -> Options {
    let mut budget = Budget::default();
    budget.max_documents = usize::MAX;
    budget.max_events = usize::MAX;
    budget.max_nodes = bytes.saturating_add(100_000);
    budget.max_total_scalar_bytes = bytes.saturating_add(1 << 20);
    budget.max_aliases = 10_000;
    budget.max_recorded_anchor_events = 100_000;
    serde_saphyr::options! {
        budget: Some(budget),
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        ignore_binary_tag_for_string: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        duplicate_keys: DuplicateKeyPolicy::Error,
        with_snippet: false,
    }
}

fn parse_json(text: &str) -> Result<Vec<Value>, ParseError> {
    let mut documents = Vec::new();
    for read in serde_json::Deserializer::from_str(text).into_iter::<Document>() {
        match read {
            Ok(Document(Value::Null)) => (),
            Ok(Document(document)) => documents.push(document),
            Err(error) => return Err(ParseError(error.to_string())),
        }
    }
    Ok(documents)
}

fn twice(key: &str) -> String {
    format!("the key {key:?} stands twice in one object")
}

/// A value in which no object has a key twice.
struct Document(Value);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor).map(Self)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value of JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Document(element)) = elements.next_element()? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, Document(value))) = members.next_entry::<String, Document>()? {
            if map.contains_key(&key) {
                return Err(serde::de::Error::custom(twice(&key)));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn yaml(text: &str) -> Result<Vec<Value>, ParseError> {
        parse(text.as_bytes(), Format::Yaml)
    }

    fn error(message: &str) -> Result<Vec<Value>, ParseError> {
        Err(ParseError(message.to_owned()))
    }

    #[test]
    fn a_pipe_that_nobody_writes_to_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("pipe.yaml");
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("it is installed");
        assert!(made.success());
        assert_eq!(read(&path).expect_err("no file").to_string(), "it is no regular file");
    }

    #[test]
    fn several_documents_stand_in_one_file() {
        assert_eq!(yaml("---\na: 1\n---\n# nothing\n---\nb: 2\n...\n"), Ok(vec![json!({"a": 1}), json!({"b": 2})]));
        assert_eq!(yaml(""), Ok(vec![]));
        assert_eq!(parse(b"\xef\xbb\xbf{\"a\": 1}\n{\"b\": 2} null", Format::Json), yaml("a: 1\n---\nb: 2\n"));
        assert_eq!(
            yaml("{\n\t\"a\": [true, null, \"\\ud83d\\ude00\"]\n}\r\n"),
            Ok(vec![json!({"a": [true, null, "😀"]})])
        );
    }

    #[test]
    fn only_true_and_false_are_truth_values() {
        let expect = json!({"a": "yes", "b": "on", "c": "NO", "d": true, "e": false, "f": "true", "y": "n"});
        assert_eq!(yaml("a: yes\nb: on\nc: NO\nd: true\ne: False\nf: 'true'\ny: n\n"), Ok(vec![expect]));
    }

    #[test]
    fn numbers_that_versions_of_yaml_take_differently_are_strings() {
        let expect = json!({"a": "0080", "b": "010", "c": 80, "d": 80.5, "e": "1_000", "f": ".inf", "g": "80"});
        assert_eq!(yaml("a: 0080\nb: 010\nc: 80\nd: 80.5\ne: 1_000\nf: .inf\ng: '80'\n"), Ok(vec![expect]));
    }

    #[test]
    fn a_key_that_stands_twice_is_an_error_with_its_line() {
        let message = "the key \"a\" stands twice in one object at line 3, column 1";
        assert_eq!(yaml("a: 1\nb: 2\na: 3\n"), error(message));
        let read = parse(b"{\"a\": 1,\n \"a\": 2}", Format::Json);
        assert_eq!(read, error("the key \"a\" stands twice in one object at line 2 column 8"));
    }

    #[test]
    fn a_file_cut_in_half_is_an_error_with_its_line() {
        let table = [
            ("kind: Pod\nmetadata:\n  name: \"x\n", "unclosed quote at line 3, column 9"),
            ("kind: Pod\nmetadata:\n  labels: {a: b", "unclosed bracket '{' at line 3, column 11"),
        ];
        for (text, message) in table {
            assert_eq!(yaml(text), error(message), "{text}");
        }
        assert_eq!(parse(b"{\"a\":\n [1", Format::Json), error("EOF while parsing a list at line 2 column 3"));
        assert_eq!(parse(b"a: 1\nb: \xff\n", Format::Yaml), error("text that is not UTF-8 at line 2"));
    }

    #[test]
    fn aliases_cannot_multiply_without_bound() {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let aliases = vec![format!("*a{}", level - 1); 9].join(",");
            text += &format!("a{level}: &a{level} [{aliases}]\n");
        }
        assert!(yaml(&text).is_err());
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 5000].join(","));
        assert!(yaml(&long).is_err());
        assert!(yaml(&"[".repeat(100_000)).is_err());
        assert!(yaml(&"{a: ".repeat(100_000)).is_err());
        assert!(yaml("a: &a [*a]\n").is_err());
        assert!(parse("[".repeat(100_000).as_bytes(), Format::Json).is_err());
    }

    #[test]
    fn what_kubectl_prints_is_read_in_either_format() {
        let long = "x: {\"y\"} ".repeat(5000);
        let pods: Vec<Value> = (0..500)
            .map(|at| json!({"kind": "Pod", "metadata": {"name": at, "annotations": {"last": long}}}))
            .collect();
        let list = json!({"kind": "List", "items": pods, "metadata": {"resourceVersion": ""}});
        for text in [list.to_string(), serde_json::to_string_pretty(&list).unwrap()] {
            for format in [Format::Yaml, Format::Json] {
                assert_eq!(parse(text.as_bytes(), format), Ok(vec![list.clone()]));
            }
        }
        let block = "metadata:\n  annotations:\n    last: |\n      {\"a\":1}\n    k8s.io/x: \"\"\n  name: p\n";
        let expect = json!({"metadata": {"annotations": {"last": "{\"a\":1}\n", "k8s.io/x": ""}, "name": "p"}});
        assert_eq!(yaml(block), Ok(vec![expect]));
    }

    #[test]
    fn anchors_and_merge_keys_are_resolved() {
        let expect = json!({"a": {"k": "v"}, "b": {"k": "v"}, "c": {"z": 1, "k": "v"}});
        assert_eq!(yaml("a: &x {k: v}\nb: *x\nc:\n  <<: *x\n  z: 1\n"), Ok(vec![expect]));
    }

    /// A text of which a few short pieces are others.
    pub(crate) fn damaged(text: &'static str) -> impl Strategy<Value = String> {
        let damage = (0..=text.len(), 0..12usize, "[-:{}\\[\\],&*!|>'\"%@# \na-c0-9~<?\\\\]{0,6}");
        proptest::collection::vec(damage, 1..4).prop_map(move |damages| {
            let mut damaged = text.to_owned();
            for (at, length, other) in damages {
                let inside = |at: usize| damaged.floor_char_boundary(at.min(damaged.len()));
                let piece = inside(at)..inside(at + length);
                damaged.replace_range(piece, &other);
            }
            damaged
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _read = parse(&bytes, Format::Yaml);
            let _read = parse(&bytes, Format::Json);
        }

        #[test]
        fn arbitrary_text_never_panics(text in "[-:{}\\[\\],&*!|>'\"%@# \\na-c0-9~<?\\\\]{0,60}") {
            let _read = parse(text.as_bytes(), Format::Yaml);
            let _read = parse(text.as_bytes(), Format::Json);
        }
    }
}
