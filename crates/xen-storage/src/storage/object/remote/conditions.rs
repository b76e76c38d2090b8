//! Finding out in which form a store takes conditions, and whether it keeps to them.

use super::{Put, Remote, TRIALS, version};
use crate::storage::object::{Objects, Unavailable, unique};
use std::borrow::Cow;
use std::io;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// Form in which a store takes the version that an object must have (`If-Match`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Form {
    /// It was not tried yet: as the store gives it.
    Unknown,
    /// As RFC 9110 writes it, in quotes.
    Quoted,
    /// Without quotes: Ceph's.
    Bare,
}

impl Form {
    /// Returns the form of that number.
    pub fn of(number: u8) -> Self {
        [Form::Quoted, Form::Bare]
            .into_iter()
            .find(|form| *form as u8 == number)
            .unwrap_or(Form::Unknown)
    }

    /// Writes a version in this form.
    pub fn write(self, e_tag: &str) -> Cow<'_, str> {
        let bare = e_tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        match (self, bare) {
            (Form::Bare, Some(bare)) => bare.into(),
            (Form::Quoted, None) if !e_tag.is_empty() && !e_tag.starts_with("W/") => {
                format!("\"{e_tag}\"").into()
            }
            _ => e_tag.into(),
        }
    }
}

impl Remote {
    /// Tries both a right and a wrong condition, once. A store that does not refuse to replace what
    /// is not of the version that was named would let two programs destroy a disk, and none would
    /// know.
    pub(super) fn find_form(&self) -> io::Result<()> {
        if self.form() != Form::Unknown {
            return Ok(());
        }
        let name = unique();
        // An object of its own: others try at the same time.
        let key = format!("{TRIALS}{name}");
        let tried = self.try_conditions(&key, &name);
        // One that stays does no harm.
        let _ = self.delete(&key);
        self.form.store(tried? as u8, Ordering::Relaxed);
        Ok(())
    }

    fn try_conditions(&self, key: &str, name: &str) -> io::Result<Form> {
        // Never the same bytes twice: some stores tell versions by them.
        let bytes = |number: u32| format!("{name}-{number}").into_bytes();
        again(|| self.put(key, &bytes(0)))?;
        self.must_refuse(
            key,
            &bytes(1),
            None,
            Form::Unknown,
            "put an object that is there already",
        )?;
        let old = self.version_of(key)?;
        let (form, first) = self.accepted(key, &bytes(2), &old)?;
        let what = "replace what another program has changed";
        self.must_refuse(key, &bytes(3), Some(&old), form, what)?;
        // The form that was not taken for a right condition may not pass for a wrong one either.
        let last = self.version_of(key)?;
        let found = again(|| self.get(key))?.map(|(found, _)| found);
        if found.as_deref() != Some(&bytes(2)) || (last != first && !first.starts_with('\n')) {
            return Err(self.unfit("return what was put last"));
        }
        again(|| self.delete(key))?;
        let what = "replace what another program has deleted";
        self.must_refuse(key, &bytes(4), Some(&last), form, what)?;
        Ok(form)
    }

    /// Finds the form in which a right condition is taken.
    fn accepted(&self, key: &str, bytes: &[u8], old: &str) -> io::Result<(Form, String)> {
        for form in [Form::Quoted, Form::Bare] {
            // Right after another put some stores refuse this one for that alone: twice is enough.
            for _ in 0..2 {
                let put = again(|| match self.put_if(key, bytes, Some(old), form) {
                    Put::Done(version) => Ok(Some(version)),
                    Put::Failed(error) => Err(error),
                    // An earlier try whose answer was lost may have been carried out.
                    Put::Refused(_) => match self.get(key)? {
                        Some((found, version)) if found == bytes => Ok(Some(version)),
                        _ => Ok(None),
                    },
                })?;
                if let Some(version) = put {
                    return Ok((form, version));
                }
            }
        }
        Err(self.unfit("replace what is of the version that was named"))
    }

    fn must_refuse(
        &self,
        key: &str,
        bytes: &[u8],
        old: Option<&str>,
        form: Form,
        what: &str,
    ) -> io::Result<()> {
        let refused = || match self.put_if(key, bytes, old, form) {
            Put::Refused(_) => Ok(true),
            Put::Failed(error) => Err(error),
            Put::Done(_) => Ok(false),
        };
        match again(refused)? {
            true => Ok(()),
            false => {
                let text = format!(
                    "{}: it does not refuse to {what}: a store without conditional puts cannot \
                     keep two programs from one disk; use another",
                    self.url
                );
                Err(io::Error::new(io::ErrorKind::Unsupported, text))
            }
        }
    }

    fn version_of(&self, key: &str) -> io::Result<String> {
        let found =
            again(|| self.get(key))?.ok_or_else(|| self.unfit("return what was put last"))?;
        match found.1 == version(None, None) {
            true => Err(self.unfit("tell the version of an object (ETag)")),
            false => Ok(found.1),
        }
    }

    fn unfit(&self, what: &str) -> io::Error {
        let text = format!("{}: it does not {what}: use another store", self.url);
        io::Error::new(io::ErrorKind::Unsupported, text)
    }
}

/// Tries of each step.
const MAX_TRIES: u32 = 20;
/// Time between two of them.
const PAUSE: Duration = Duration::from_millis(100);

/// Makes a request again that gets no answer: all steps together would need as many good moments of
/// the network in a row.
fn again<T>(mut ask: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut tries = 1;
    loop {
        match ask() {
            Err(error) if Unavailable::is(&error) && tries < MAX_TRIES => {
                tries += 1;
                thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Form;

    #[test]
    fn versions_are_written_in_both_forms() {
        for e_tag in ["\"a\"", "a"] {
            assert_eq!(
                (Form::Quoted.write(e_tag), Form::Bare.write(e_tag)),
                ("\"a\"".into(), "a".into())
            );
            assert_eq!(Form::Unknown.write(e_tag), e_tag);
        }
        assert_eq!(
            (Form::Quoted.write(""), Form::Quoted.write("W/\"a\"")),
            ("".into(), "W/\"a\"".into())
        );
    }
}
