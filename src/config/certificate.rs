//! The public listener's certificate and key: read, judged, ready for TLS.
//!
//! Like the credentials they are checked before any port is bound: both files readable, the key
//! nobody else's to read, the chain complete enough to be sent, the key the certificate's own. What
//! is wrong with them is said with file, key and mend, and no byte of a key is ever part of that.
//!
//! A certificate that has expired, or is made out to another name, is a warning and no refusal: a
//! daemon that does not start helps nobody, and one that runs takes the renewed file at the next
//! reload. The metric and its alert tell weeks before.

use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use ring::digest;
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    server::ParsedCertificate,
    sign::CertifiedKey,
};

use super::{Config, PemFile, Problem, Problems, problem::shell_word};

/// A chain of four with every extension there is has some 10 KiB.
const MOST_BYTES: u64 = 256 * 1024;
/// Let's Encrypt renews a month before; whoever is warned here has missed that.
const SOON: i64 = 14 * DAY;
const DAY: i64 = 24 * 3600;

/// What the public listener shows, and proves to be.
#[derive(Clone)]
pub struct Certificate {
    pub certified: Arc<CertifiedKey>,
    /// Unix time; the server's own certificate, not that of its issuers.
    pub expires: i64,
    /// What an operator should know and can go on with.
    pub warnings: Vec<String>,
    key_digest: [u8; 32],
}

impl Certificate {
    pub fn same_chain(&self, other: &Certificate) -> bool {
        self.certified.cert == other.certified.cert
    }

    pub fn same_key(&self, other: &Certificate) -> bool {
        self.key_digest == other.key_digest
    }
}

/// The certificate that `config` names, if it names one. `directory` is `$CREDENTIALS_DIRECTORY`.
pub fn load(
    config: &Config,
    directory: Option<&Path>,
    now: SystemTime,
) -> Result<Option<Certificate>, Problems> {
    let (Some(cert), Some(key)) = (&config.listen.tls_cert, &config.listen.tls_key) else {
        return Ok(None);
    };
    let mut problems = Vec::new();
    let mut take = |found: Result<Vec<u8>, Problem>| found.map_err(|p| problems.push(p)).ok();
    let cert = Pem::find("listen.tls_cert", cert, directory);
    let key = Pem::find("listen.tls_key", key, directory);
    let chain = take(
        cert.as_ref()
            .map_err(Clone::clone)
            .and_then(|pem| pem.read(false)),
    );
    let secret = take(
        key.as_ref()
            .map_err(Clone::clone)
            .and_then(|pem| pem.read(true)),
    );
    let (Ok(cert), Ok(key), Some(chain), Some(secret)) = (cert, key, chain, secret) else {
        return Err(Problems::collect(problems).expect("something was not found or not read"));
    };
    let chain = cert.chain(&chain);
    let secret = key.private(&secret);
    match (chain, secret) {
        (Ok(chain), Ok(secret)) => {
            let host = &config.public_url.host;
            judge(&cert, &key, chain, secret, host, now)
                .map(Some)
                .map_err(Problems::from)
        }
        (chain, secret) => {
            let both = [chain.err(), secret.err()];
            let both = both.into_iter().flatten().collect();
            Err(Problems::collect(both).expect("one of them is an error"))
        }
    }
}

fn judge(
    cert: &Pem,
    key: &Pem,
    chain: Vec<CertificateDer<'static>>,
    secret: PrivateKeyDer<'static>,
    host: &str,
    now: SystemTime,
) -> Result<Certificate, Problem> {
    let key_digest = digest::digest(&digest::SHA256, secret.secret_der());
    let key_digest = key_digest
        .as_ref()
        .try_into()
        .expect("SHA-256 has 32 bytes");
    let signer = rustls::crypto::ring::sign::any_supported_type(&secret).map_err(|_| {
        key.problem(
            "is a key of a kind that is not supported here",
            "use an RSA key of 2048 to 8192 bits, ECDSA P-256 or P-384, or Ed25519",
        )
    })?;
    let unusable = || {
        cert.problem(
            "does not begin with a certificate that TLS can use",
            "write an X.509 version 3 certificate as your authority gave it",
        )
    };
    let parsed = ParsedCertificate::try_from(&chain[0]).map_err(|_| unusable())?;
    let Facts {
        begins, expires, ..
    } = facts(&chain[0]).ok_or_else(unusable)?;
    let matches = |der: &CertificateDer<'static>| {
        CertifiedKey::new(vec![der.clone()], signer.clone())
            .keys_match()
            .is_ok()
    };
    if !matches(&chain[0]) {
        return Err(match chain.iter().skip(1).position(matches) {
            Some(n) => cert.problem(
                format!(
                    "has the server's own certificate at place {}, behind an issuer's",
                    n + 2
                ),
                "put it first, each issuer below the one it has signed",
            ),
            None => key.problem(
                format!(
                    "is not the key of the certificate in {}",
                    cert.path.display()
                ),
                "name the two files that were made together",
            ),
        });
    }
    let mut warnings = Vec::new();
    let now = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() as i64);
    let file = cert.path.display();
    if expires <= now {
        warnings.push(format!(
            "listen.tls_cert: the certificate in {file} has expired: Twilio refuses it; renew it, \
             then humebridgectl reload"
        ));
    } else if expires - now <= SOON {
        let left = match (expires - now) / DAY {
            0 => "within a day".to_owned(),
            1 => "in a day".to_owned(),
            days => format!("in {days} days"),
        };
        warnings.push(format!(
            "listen.tls_cert: the certificate in {file} expires {left}; renew it, then \
             humebridgectl reload"
        ));
    }
    if begins > now {
        warnings.push(format!(
            "listen.tls_cert: the certificate in {file} is not valid yet: look at this machine's \
             clock"
        ));
    }
    let host = host.trim_matches(['[', ']']);
    let named = ServerName::try_from(host)
        .is_ok_and(|name| rustls::client::verify_server_name(&parsed, &name).is_ok());
    if !named {
        warnings.push(format!(
            "listen.tls_cert: the certificate in {file} is not made out to {host}, the host of \
             public_url: Twilio refuses it, unless a proxy stands before this listener"
        ));
    }
    if let Some(gap) = gap(&chain) {
        warnings.push(format!("listen.tls_cert: {file}: {gap}"));
    }
    Ok(Certificate {
        certified: Arc::new(CertifiedKey::new(chain, signer)),
        expires,
        warnings,
        key_digest,
    })
}

/// Why whoever knows only the public authorities cannot find a way from the first certificate to
/// one of them. A root itself need not be sent, so a chain of two or more may end anywhere.
fn gap(chain: &[CertificateDer<'static>]) -> Option<String> {
    let chain: Vec<_> = chain.iter().map_while(|der| facts(der)).collect();
    let own = chain.first()?;
    if own.issuer == own.subject {
        return Some("the certificate is signed by itself, which Twilio refuses".to_owned());
    }
    if chain.len() == 1 {
        return Some(
            "there is no issuer's certificate behind the server's own; of a public authority's \
             files, take the full chain"
                .to_owned(),
        );
    }
    let broken = chain
        .windows(2)
        .position(|pair| pair[0].issuer != pair[1].subject)?;
    Some(format!(
        "the certificate at place {} is not the issuer of the one before it",
        broken + 2
    ))
}

/// One of the two files.
struct Pem {
    key: &'static str,
    path: PathBuf,
}

impl Pem {
    fn find(key: &'static str, file: &PemFile, directory: Option<&Path>) -> Result<Pem, Problem> {
        let path = match (file, directory.filter(|path| !path.as_os_str().is_empty())) {
            (PemFile::Path(path), _) => path.clone(),
            (PemFile::Credential(name), Some(directory)) => directory.join(name),
            (PemFile::Credential(name), None) => {
                return Err(Problem {
                    file: String::new(),
                    line: None,
                    key: key.into(),
                    what: "is a credential, and $CREDENTIALS_DIRECTORY is not set".into(),
                    mend: format!(
                        "add LoadCredential={name}:/PATH to the unit, or write the file's full path"
                    ),
                });
            }
        };
        Ok(Pem { key, path })
    }

    fn problem(&self, what: impl Into<String>, mend: impl Into<String>) -> Problem {
        Problem {
            file: self.path.display().to_string(),
            line: None,
            key: self.key.into(),
            what: what.into(),
            mend: mend.into(),
        }
    }

    fn read(&self, secret: bool) -> Result<Vec<u8>, Problem> {
        let failed = |error: std::io::Error| {
            let mend = match error.kind() {
                ErrorKind::NotFound => "create it, or name another",
                _ => "let the user that runs hume-bridge read it",
            };
            self.problem(format!("cannot be read: {error}"), mend)
        };
        // Before it is opened: opening a pipe waits for a writer.
        let found = std::fs::metadata(&self.path).map_err(failed)?;
        if !found.is_file() {
            return Err(self.problem("is not a regular file", "name a PEM file"));
        }
        let file = File::open(&self.path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode();
        if secret && mode & 0o006 != 0 {
            let may = match mode & 0o006 {
                0o004 => "read",
                0o002 => "write",
                _ => "read and write",
            };
            return Err(self.problem(
                format!("every user of this machine may {may} it"),
                format!("chmod o-rwx {}", shell_word(&self.path)),
            ));
        }
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > MOST_BYTES {
            let what = format!("is larger than {} KiB", MOST_BYTES / 1024);
            return Err(self.problem(what, "name a PEM file"));
        }
        Ok(bytes)
    }

    fn chain(&self, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        match chain {
            Err(_) => Err(self.broken()),
            Ok(chain) if !chain.is_empty() => Ok(chain),
            Ok(_) if contains(pem, "PRIVATE KEY-----") => Err(self.problem(
                "has a private key and no certificate",
                "name the certificate chain here, and this file in listen.tls_key",
            )),
            Ok(_) => Err(self.no_pem("certificate", "CERTIFICATE", pem)),
        }
    }

    fn private(&self, pem: &[u8]) -> Result<PrivateKeyDer<'static>, Problem> {
        if contains(pem, "BEGIN ENCRYPTED PRIVATE KEY") || contains(pem, "Proc-Type: 4,ENCRYPTED") {
            let file = shell_word(&self.path);
            return Err(self.problem(
                "is encrypted, and a daemon has nobody to ask for the passphrase",
                format!(
                    "write it without one: (umask 077; openssl pkey -in {file} -out PLAIN.pem), and \
                     name that"
                ),
            ));
        }
        match PrivateKeyDer::from_pem_slice(pem) {
            Ok(key) => Ok(key),
            Err(rustls::pki_types::pem::Error::NoItemsFound) => {
                Err(match contains(pem, "-----BEGIN CERTIFICATE") {
                    true => self.problem(
                        "has a certificate and no private key",
                        "name the file of its private key",
                    ),
                    false => self.no_pem("private key", "PRIVATE KEY", pem),
                })
            }
            Err(_) => Err(self.broken()),
        }
    }

    fn broken(&self) -> Problem {
        self.problem(
            "is not whole PEM",
            "copy it again, from -----BEGIN to the last -----END line",
        )
    }

    fn no_pem(&self, what: &str, label: &str, bytes: &[u8]) -> Problem {
        // ASN.1 begins with a sequence.
        match bytes.first() {
            Some(0x30) => self.problem(
                "is DER, not PEM",
                "convert it: openssl x509 -inform der for a certificate, openssl pkey -inform der \
                 for a key",
            ),
            Some(_) => self.problem(
                format!("has no {what}"),
                format!("name a PEM file with a -----BEGIN {label}----- line"),
            ),
            None => self.problem("is empty", format!("write the {what} into it")),
        }
    }
}

fn contains(text: &[u8], words: &str) -> bool {
    text.windows(words.len())
        .any(|window| window == words.as_bytes())
}

/// What a certificate says of itself (RFC 5280, section 4.1).
struct Facts<'d> {
    issuer: &'d [u8],
    /// In Unix time, as is the next.
    begins: i64,
    expires: i64,
    subject: &'d [u8],
}

/// There are libraries that read the rest of it, too; rustls has one and keeps it to itself.
fn facts(certificate: &[u8]) -> Option<Facts<'_>> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let certificate = Der(certificate).take(SEQUENCE)?;
    let mut fields = Der(Der(certificate).take(SEQUENCE)?);
    if fields.0.first() == Some(&VERSION) {
        fields.take(VERSION)?;
    }
    fields.take(0x02)?; // serialNumber
    fields.take(SEQUENCE)?; // signature
    let issuer = fields.take(SEQUENCE)?;
    let mut times = Der(fields.take(SEQUENCE)?);
    Some(Facts {
        issuer,
        begins: times.time()?,
        expires: times.time()?,
        subject: fields.take(SEQUENCE)?,
    })
}

/// What is left of a row of elements.
struct Der<'d>(&'d [u8]);

impl<'d> Der<'d> {
    fn element(&mut self) -> Option<(u8, &'d [u8])> {
        let (&[tag, length], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match length {
            ..=0x7f => (usize::from(length), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
                let length = bytes.iter().fold(0, |sum, b| sum << 8 | usize::from(*b));
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn take(&mut self, wanted: u8) -> Option<&'d [u8]> {
        let (tag, content) = self.element()?;
        (tag == wanted).then_some(content)
    }

    /// UTCTime or GeneralizedTime, as RFC 5280 allows them: to the second, in UTC.
    fn time(&mut self) -> Option<i64> {
        let (tag, text) = self.element()?;
        let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
        let text = match tag {
            // Until 2049; later years are GeneralizedTime.
            0x17 if text.get(..2)? < "50" => format!("20{text}"),
            0x17 => format!("19{text}"),
            0x18 => text.to_owned(),
            _ => return None,
        };
        if text.len() != 14 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let part = |from: usize, to: usize| text[from..to].parse::<i16>().ok();
        let byte = |from: usize| part(from, from + 2).and_then(|n| i8::try_from(n).ok());
        let time = jiff::civil::DateTime::new(
            part(0, 4)?,
            byte(4)?,
            byte(6)?,
            byte(8)?,
            byte(10)?,
            byte(12)?,
            0,
        );
        let time = time.ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(time.timestamp().as_second())
    }
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
