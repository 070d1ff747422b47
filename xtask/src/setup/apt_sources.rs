//! The two syntaxes of apt's sources, read only as far as finding the mirror of a suite.

/// A mirror, and what verifies it.
#[derive(Debug, PartialEq, Eq)]
pub struct Archive {
    uri: String,
    /// The keyring, when the source names one.
    signed_by: Option<String>,
}

impl Archive {
    /// A deb822 stanza for another suite of the same mirror.
    pub fn stanza(&self, suite: &str) -> String {
        let signed_by = self.signed_by.as_ref().map(|path| format!("Signed-By: {path}\n")).unwrap_or_default();
        format!("Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\n{signed_by}", self.uri)
    }
}

/// The mirror that a sources file, of either syntax, uses for a suite's `main`.
pub fn archive_of(file: &str, suite: &str) -> Option<Archive> {
    one_line(file, suite).or_else(|| deb822(file, suite))
}

/// `deb [signed-by=/usr/share/keyrings/x.gpg] http://mirror/debian bookworm main`
fn one_line(file: &str, suite: &str) -> Option<Archive> {
    file.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let uri = words.next()?;
        let fits = words.next()? == suite && words.any(|component| component == "main");
        let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
        fits.then(|| Archive { uri: uri.to_owned(), signed_by: signed_by.map(str::to_owned) })
    })
}

fn deb822(file: &str, suite: &str) -> Option<Archive> {
    stanzas(file).into_iter().find_map(|stanza| {
        let field = |name: &str| {
            let mut fields = stanza.iter();
            fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
        };
        let has = |name: &str, word: &str| field(name).is_some_and(|value| value.split_whitespace().any(|w| w == word));
        let enabled = !field("Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
        let fits = enabled && has("Types", "deb") && has("Suites", suite) && has("Components", "main");
        // A key in the stanza itself, rather than a path, would need its line breaks: such a source is passed over.
        let signed_by = field("Signed-By").map(str::to_owned);
        let usable = signed_by.as_ref().is_none_or(|path| path.starts_with('/'));
        let uri = field("URIs")?.split_whitespace().next()?.to_owned();
        (fits && usable).then_some(Archive { uri, signed_by })
    })
}

/// Paragraphs of `Key: value`, continuation lines joined, comments left out.
fn stanzas(file: &str) -> Vec<Vec<(String, String)>> {
    let mut stanzas = vec![Vec::<(String, String)>::new()];
    for line in file.lines().filter(|line| !line.starts_with('#')) {
        let stanza = stanzas.last_mut().expect("there is one from the start");
        if line.trim().is_empty() {
            stanzas.push(Vec::new());
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = stanza.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((key, value)) = line.split_once(':') {
            stanza.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    stanzas
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(uri: &str, signed_by: Option<&str>) -> Option<Archive> {
        Some(Archive { uri: uri.to_owned(), signed_by: signed_by.map(str::to_owned) })
    }

    #[test]
    fn one_line_sources_are_read_with_their_options() {
        let file = "# deb http://old/debian bookworm main\n\
                    deb http://security/debian-security bookworm-security main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://mirror/debian bookworm main contrib\n";
        assert_eq!(archive_of(file, "bookworm"), archive("http://mirror/debian", Some("/k.gpg")));
        assert_eq!(archive_of(file, "trixie"), None);
    }

    #[test]
    fn deb822_sources_are_read_across_comments_and_continuation_lines() {
        let file = "Types: deb\nURIs: http://other/x\nSuites: nodistro\nComponents: main\n\n\
                    Types: deb deb-src\n# a comment\nURIs: http://mirror/debian\nSuites: bookworm\n bookworm-updates\n\
                    Components: main\nSigned-By: /k.gpg\n";
        assert_eq!(archive_of(file, "bookworm"), archive("http://mirror/debian", Some("/k.gpg")));
        assert_eq!(archive_of(file, "bookworm-updates"), archive("http://mirror/debian", Some("/k.gpg")));
    }

    #[test]
    fn a_disabled_source_is_passed_over() {
        let file = "Enabled: no\nTypes: deb\nURIs: http://mirror/debian\nSuites: bookworm\nComponents: main\n";
        assert_eq!(archive_of(file, "bookworm"), None);
    }

    #[test]
    fn the_stanza_for_another_suite_keeps_the_keyring() {
        let found = archive_of("deb [signed-by=/k.gpg] http://mirror/debian bookworm main", "bookworm");
        assert_eq!(
            found.map(|archive| archive.stanza("trixie-backports")).as_deref(),
            Some(
                "Types: deb\nURIs: http://mirror/debian\nSuites: trixie-backports\nComponents: main\nSigned-By: /k.gpg\n"
            )
        );
    }
}
