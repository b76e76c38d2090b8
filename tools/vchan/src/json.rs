//! JSON for scripts.

use std::fmt;

/// A value to print.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Json {
    Null,
    Number(u64),
    /// Printed with three digits; null if it is not finite.
    Fraction(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

impl From<u64> for Json {
    fn from(number: u64) -> Self {
        Json::Number(number)
    }
}

impl From<u32> for Json {
    fn from(number: u32) -> Self {
        Json::Number(number.into())
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Json::Text(text.to_string())
    }
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Self {
        value.map_or(Json::Null, Into::into)
    }
}

impl<T: Into<Json>> FromIterator<T> for Json {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Json::List(values.into_iter().map(Into::into).collect())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Number(number) => write!(f, "{number}"),
            Json::Fraction(number) if number.is_finite() => write!(f, "{number:.3}"),
            Json::Fraction(_) => f.write_str("null"),
            Json::Text(text) => quote(text, f),
            Json::List(values) => {
                f.write_str("[")?;
                separated(values, f, |value, f| write!(f, "{value}"))?;
                f.write_str("]")
            }
            Json::Object(members) => {
                f.write_str("{")?;
                separated(members, f, |(name, value), f| write!(f, "\"{name}\":{value}"))?;
                f.write_str("}")
            }
        }
    }
}

fn separated<T>(
    items: &[T],
    f: &mut fmt::Formatter<'_>,
    mut one: impl FnMut(&T, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            f.write_str(",")?;
        }
        one(item, f)?;
    }
    Ok(())
}

fn quote(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_is_written_as_json() {
        let value = Json::Object(vec![
            ("a", [1u32, 2].into_iter().collect()),
            ("b", None::<u64>.into()),
            ("d", Json::Fraction(1.5)),
            ("e", Json::Fraction(f64::INFINITY)),
            ("f", "say \"\\\n\" ä".into()),
            ("g", Json::Object(Vec::new())),
        ]);
        let text = r#"{"a":[1,2],"b":null,"d":1.500,"e":null,"f":"say \"\\\u000a\" ä","g":{}}"#;
        assert_eq!(value.to_string(), text);
    }
}
