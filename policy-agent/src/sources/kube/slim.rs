//! Decoding only what policy needs: a mask says which members of an object are kept, everything else is skipped unread.

use std::fmt;

use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// What is kept of a value. A value of another shape than the mask's is kept as far as its shape goes, so that whoever
/// reads it can say what is wrong.
#[derive(Clone, Copy, Debug)]
pub enum Keep {
    /// All of it.
    All,
    /// These members of an object.
    Members(&'static [(&'static str, Keep)]),
    /// This much of each element of a list.
    Elements(&'static Keep),
}

impl<'de> DeserializeSeed<'de> for Keep {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self {
            Self::All => Value::deserialize(deserializer),
            Self::Members(_) | Self::Elements(_) => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Keep {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        let members = if let Self::Members(members) = self { members } else { &[] };
        while let Some(member) = access.next_key_seed(OneOf(members))? {
            match member {
                Some((name, keep)) => drop(kept.insert(name.to_owned(), access.next_value_seed(keep)?)),
                None => drop(access.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(kept))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut kept = Vec::new();
        if let Self::Elements(keep) = self {
            while let Some(element) = access.next_element_seed(*keep)? {
                kept.push(element);
            }
        } else {
            while access.next_element::<IgnoredAny>()?.is_some() {}
        }
        Ok(Value::Array(kept))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
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

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

/// The name of one of these members, or of none.
struct OneOf(&'static [(&'static str, Keep)]);

impl<'de> DeserializeSeed<'de> for OneOf {
    type Value = Option<(&'static str, Keep)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for OneOf {
    type Value = Option<(&'static str, Keep)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|(kept, _)| *kept == name).copied())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MASK: Keep = Keep::Members(&[
        ("name", Keep::All),
        ("inner", Keep::Members(&[("a", Keep::All)])),
        ("list", Keep::Elements(&Keep::Members(&[("b", Keep::All)]))),
    ]);

    fn kept(value: &Value) -> Value {
        MASK.deserialize(&mut serde_json::Deserializer::from_str(&value.to_string())).expect("it is JSON")
    }

    #[test]
    fn what_the_mask_names_is_kept_and_nothing_else() {
        let all = json!({"name": {"x": [1, {}]}, "other": [1], "inner": {"a": 1.5, "b": 2},
            "list": [{"b": null, "c": 1}, {"c": {"b": 2}}]});
        let expect = json!({"name": {"x": [1, {}]}, "inner": {"a": 1.5}, "list": [{"b": null}, {}]});
        assert_eq!(kept(&all), expect);
    }

    #[test]
    fn another_shape_stays_another_shape() {
        for (all, expect) in [
            (json!({"inner": "text", "list": -5}), json!({"inner": "text", "list": -5})),
            (json!({"inner": null, "list": {"b": 1}}), json!({"inner": null, "list": {}})),
            (json!({"inner": [1, 2], "list": ["x", true, 7]}), json!({"inner": [], "list": ["x", true, 7]})),
            (json!([1]), json!([])),
            (json!("x"), json!("x")),
        ] {
            assert_eq!(kept(&all), expect, "{all}");
        }
    }
}
