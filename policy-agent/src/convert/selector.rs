//! Label selectors, checked as the API server checks them.

use policy_core::model::{ClusterId, Operator, Requirement, Selector, Text, is_cluster_key};

use super::label::{check_key, check_value};
use super::reader::{At, Notes, Unread, collect, elements_of};

/// Reads a selector, in policies and wherever else one stands.
pub(super) fn read(at: &At<'_>, notes: &mut Notes<'_>) -> Result<Selector, Unread> {
    let known = at.only(&["matchLabels", "matchExpressions"], notes);
    let labels = at.get("matchLabels").map_or(Ok(Vec::new()), |labels| match_labels(&labels, notes));
    let expressions = match_expressions(at, notes);
    known?;
    let mut requirements = labels?;
    requirements.extend(expressions?);
    Ok(Selector { requirements })
}

fn match_labels(at: &At<'_>, notes: &mut Notes<'_>) -> Result<Vec<Requirement>, Unread> {
    let mut requirements = Ok(Vec::new());
    for member in at.members(notes)? {
        let key = member.name();
        let read = (|| {
            valid_key(key, &member, notes)?;
            // An absent value is the empty one, as the API server decodes it.
            let value = if member.value().is_null() { "" } else { member.string(notes)? };
            // No cluster has an empty id: this can be read, and matches nobody.
            if !(value.is_empty() && is_cluster_key(key)) {
                valid_value(key, value, &member, notes)?;
            }
            Ok(Requirement { key: key.into(), operator: Operator::In(vec![value.into()]) })
        })();
        collect(&mut requirements, read);
    }
    let mut requirements = requirements?;
    requirements.sort();
    Ok(requirements)
}

fn match_expressions(at: &At<'_>, notes: &mut Notes<'_>) -> Result<Vec<Requirement>, Unread> {
    let list = at.get("matchExpressions");
    let mut requirements = Ok(Vec::new());
    for element in elements_of(list.as_ref(), notes)? {
        collect(&mut requirements, expression(&element, notes));
    }
    requirements
}

fn expression(at: &At<'_>, notes: &mut Notes<'_>) -> Result<Requirement, Unread> {
    at.only(&["key", "operator", "values"], notes)?;
    let key = at.member("key").string(notes)?;
    let valid = valid_key(key, &at.member("key"), notes);
    let operator = operator(at, key, notes);
    valid?;
    Ok(Requirement { key: key.into(), operator: operator? })
}

fn operator(at: &At<'_>, key: &str, notes: &mut Notes<'_>) -> Result<Operator, Unread> {
    let place = at.member("operator");
    let name = place.string(notes)?;
    let values = values(at, key, notes)?;
    let some = |values: Vec<Text>, notes: &mut Notes<'_>| {
        if values.is_empty() {
            Err(notes.unreadable(&at.member("values"), format_args!("{name} needs at least one value")))
        } else {
            Ok(values)
        }
    };
    let none = |values: Vec<Text>, notes: &mut Notes<'_>, operator| {
        if values.is_empty() {
            Ok(operator)
        } else {
            Err(notes.unreadable(&at.member("values"), format_args!("{name} takes no values; use In or NotIn")))
        }
    };
    match name {
        "In" => Ok(Operator::In(some(values, notes)?)),
        "NotIn" => Ok(Operator::NotIn(some(values, notes)?)),
        "Exists" => none(values, notes, Operator::Exists),
        "DoesNotExist" => none(values, notes, Operator::DoesNotExist),
        _ => Err(notes.unreadable(
            &place,
            format_args!("{name:?} is no operator: In, NotIn, Exists or DoesNotExist, spelled exactly so"),
        )),
    }
}

fn values(at: &At<'_>, key: &str, notes: &mut Notes<'_>) -> Result<Vec<Text>, Unread> {
    let list = at.get("values");
    let mut values = Ok(Vec::new());
    for element in elements_of(list.as_ref(), notes)? {
        let read = element.string(notes).and_then(|value| {
            valid_value(key, value, &element, notes)?;
            Ok(value.into())
        });
        collect(&mut values, read);
    }
    values
}

fn valid_key(key: &str, at: &At<'_>, notes: &mut Notes<'_>) -> Result<(), Unread> {
    check_key(key).map_err(|why| notes.unreadable(at, format_args!("{key:?} is no label key: {why}")))
}

/// Cluster ids are not bound to the 63 characters of label values, but to their own shape.
fn valid_value(key: &str, value: &str, at: &At<'_>, notes: &mut Notes<'_>) -> Result<(), Unread> {
    if is_cluster_key(key) {
        let id: Result<ClusterId, _> = value.parse();
        return id.map(drop).map_err(|why| notes.unreadable(at, why));
    }
    check_value(value).map_err(|why| notes.unreadable(at, format_args!("{value:?} is no label value: {why}")))
}
