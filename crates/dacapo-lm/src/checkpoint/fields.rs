//! Typed access to the keys of a JSON configuration.

use std::ops::RangeInclusive;
use std::path::Path;

use serde_json::Value;

use super::config::{in_range, positive};
use super::folder::json_kind;
use crate::error::{Error, Result, one_line};

/// A JSON object with the file and key that it stands at.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) path: &'a Path,
    /// Put before keys in messages: empty, or as in `rope_scaling.`.
    pub(super) prefix: &'a str,
    pub(super) object: &'a Value,
}

impl<'a> Fields<'a> {
    /// The value of `key`; null counts as absent, as it does in transformers.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// An error at `key`.
    pub(super) fn fail(&self, key: &str, expected: &str) -> Error {
        let found = self.object.get(key).map_or("nothing".to_string(), |value| match value {
            Value::Array(_) | Value::Object(_) => json_kind(value).to_string(),
            plain => one_line(&plain.to_string()),
        });
        Error::config(self.path, format!("{}{key}", self.prefix), expected, found)
    }

    /// An integer in `range`; `None` if absent.
    pub(super) fn count(&self, key: &str, range: RangeInclusive<u64>) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        // Some configurations write whole numbers as 1024.0.
        let whole = value.as_f64().filter(|x| x.fract() == 0.0 && (0.0..1e15).contains(x)).map(|x| x as u64);
        match value.as_u64().or(whole) {
            Some(n) => in_range(self.path, &format!("{}{key}", self.prefix), n, range).map(Some),
            None => Err(self.fail(key, &format!("an integer from {} to {}", range.start(), range.end()))),
        }
    }

    /// A positive finite number; `None` if absent.
    pub(super) fn positive(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_f64().ok_or_else(|| self.fail(key, "a positive number"))?;
        positive(self.path, &format!("{}{key}", self.prefix), number).map(Some)
    }

    /// As [`positive`](Self::positive), for a key that must be there.
    pub(super) fn required(&self, key: &str) -> Result<f64> {
        self.positive(key)?.ok_or_else(|| self.fail(key, "a positive number"))
    }

    /// A truth value; `default` if absent.
    pub(super) fn bool(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(_) => Err(self.fail(key, "true or false")),
        }
    }

    /// A string; `None` if absent.
    pub(super) fn str(&self, key: &str) -> Result<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(value)) => Ok(Some(value)),
            Some(_) => Err(self.fail(key, "a string")),
        }
    }

    /// A token id or a list of them; empty if absent.
    pub(super) fn token_ids(&self, key: &str) -> Result<Vec<u32>> {
        let id = |value: &Value| {
            value
                .as_u64()
                .and_then(|n| u32::try_from(n).ok())
                .ok_or_else(|| self.fail(key, "a token id or a list of them"))
        };
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(id).collect(),
            Some(single) => Ok(vec![id(single)?]),
        }
    }
}
