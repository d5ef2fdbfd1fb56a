//! Certificates as operators bring them, most of them wrong.

use std::{fs, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tempfile::TempDir;

use super::*;
use crate::config::PublicUrl;

const HOST: &str = "bridge.example.com";

struct Files {
    directory: TempDir,
    config: Config,
}

impl Files {
    fn new() -> Files {
        let directory = TempDir::new().unwrap();
        let url = format!("https://{HOST}");
        let mut config = Config::new(PublicUrl::parse(&url).unwrap());
        config.listen.tls_cert = Some(PemFile::Path(directory.path().join("cert.pem")));
        config.listen.tls_key = Some(PemFile::Path(directory.path().join("key.pem")));
        Files { directory, config }
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>, mode: u32) {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn with(cert: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Files {
        let files = Files::new();
        files.write("cert.pem", cert, 0o644);
        files.write("key.pem", key, 0o600);
        files
    }

    fn load_at(&self, now: SystemTime) -> Result<Certificate, String> {
        let loaded = load(&self.config, Some(self.directory.path()), now);
        match loaded {
            Ok(certificate) => Ok(certificate.expect("TLS is on")),
            Err(problems) => {
                let text = problems.to_string();
                assert!(!text.contains("MII") && !text.contains("MC4"), "{text}");
                Err(text)
            }
        }
    }

    /// In the middle of the certificate's life.
    fn load(&self) -> Result<Certificate, String> {
        self.load_at(day(2030, 6, 1))
    }

    fn fails(&self, words: &[&str]) {
        let error = self.load().err().expect("a problem");
        for word in words {
            assert!(error.contains(word), "{word}: {error}");
        }
    }
}

fn day(year: i32, month: u8, day: u8) -> SystemTime {
    let seconds = date_time_ymd(year, month, day).unix_timestamp();
    UNIX_EPOCH + Duration::from_secs(seconds as u64)
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key, valid through 2030.
fn issued(name: &str, authority: &CertifiedIssuer<'static, KeyPair>) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2030, 1, 1);
    params.not_after = date_time_ymd(2031, 1, 1);
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// The same, with the issuer's certificate behind.
fn made_out_to(name: &str) -> (String, String) {
    let authority = authority("issuer");
    let (certificate, key) = issued(name, &authority);
    (format!("{certificate}{}", authority.pem()), key)
}

#[test]
fn a_good_pair_is_taken_and_its_end_is_known() {
    let (cert, key) = made_out_to(HOST);
    let certificate = Files::with(&cert, &key).load().unwrap();
    assert_eq!(certificate.warnings, Vec::<String>::new());
    assert_eq!(
        certificate.expires,
        date_time_ymd(2031, 1, 1).unix_timestamp()
    );
    let again = Files::with(&cert, &key).load().unwrap();
    assert!(certificate.same_chain(&again) && certificate.same_key(&again));
    let (cert, key) = made_out_to(HOST);
    let other = Files::with(cert, key).load().unwrap();
    assert!(!certificate.same_chain(&other) && !certificate.same_key(&other));

    let mut files = Files::new();
    files.config.listen.tls_cert = None;
    files.config.listen.tls_key = None;
    assert!(
        load(&files.config, None, day(2030, 6, 1))
            .unwrap()
            .is_none()
    );
}

#[test]
fn what_can_be_gone_on_with_is_a_warning() {
    let (cert, key) = made_out_to("other.example.com");
    let files = Files::with(cert, key);
    for (now, words) in [
        (day(2029, 12, 31), "is not valid yet"),
        (day(2030, 12, 16), "is not made out to bridge.example.com"),
        (day(2030, 12, 19), "expires in 13 days"),
        (day(2030, 12, 31), "expires in a day"),
        (day(2031, 1, 1), "has expired"),
    ] {
        let warnings = files.load_at(now).unwrap().warnings;
        assert!(
            warnings.iter().any(|warning| warning.contains(words)),
            "{warnings:?}"
        );
        assert!(
            warnings
                .iter()
                .any(|warning| warning.contains("not made out to"))
        );
    }
    assert_eq!(files.load().unwrap().warnings.len(), 1);
}

#[test]
fn a_chain_that_leads_nowhere_is_a_warning() {
    let (one, two) = (authority("one"), authority("two"));
    let (cert, key) = issued(HOST, &one);
    let warnings = |chain: String, key: &str| Files::with(chain, key).load().unwrap().warnings;
    let whole = warnings(format!("{cert}{}", one.pem()), &key);
    assert_eq!(whole, Vec::<String>::new());
    for (chain, words) in [
        (cert.clone(), "take the full chain"),
        (
            format!("{cert}{}", two.pem()),
            "at place 2 is not the issuer",
        ),
        (
            format!("{cert}{}{}{}", one.pem(), one.pem(), two.pem()),
            "at place 4 is not the issuer",
        ),
    ] {
        let warnings = warnings(chain, &key);
        assert!(
            warnings.len() == 1 && warnings[0].contains(words),
            "{warnings:?}"
        );
    }
    let own = rcgen::generate_simple_self_signed(vec![HOST.into()]).unwrap();
    let files = Files::with(own.cert.pem(), own.signing_key.serialize_pem());
    let warnings = files.load().unwrap().warnings;
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("signed by itself")),
        "{warnings:?}"
    );
}

#[test]
fn files_that_are_not_what_they_should_be() {
    let (cert, key) = made_out_to(HOST);
    let (other_cert, other_key) = made_out_to(HOST);
    Files::with(&cert, &other_key).fails(&["listen.tls_key", "is not the key of", "cert.pem"]);
    let behind = format!("{other_cert}{cert}");
    Files::with(behind, &key).fails(&["listen.tls_cert", "at place 3", "put it first"]);
    Files::with(&key, &key).fails(&["tls_cert", "a private key and no certificate"]);
    Files::with(&cert, &cert).fails(&["tls_key", "a certificate and no private key"]);
    Files::with("", "hello").fails(&["cert.pem: listen.tls_cert: is empty", "has no private key"]);
    Files::with(&cert[..cert.len() - 60], &key).fails(&["tls_cert", "not whole PEM"]);
    Files::with([0x30, 0x82, 1, 2], &key).fails(&["is DER, not PEM", "openssl x509"]);
    let wrong = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    Files::with(wrong, &key).fails(&["tls_cert", "TLS can use"]);
    for encrypted in [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\nAAAA\n\
         -----END RSA PRIVATE KEY-----\n",
    ] {
        Files::with(&cert, encrypted).fails(&["tls_key", "is encrypted", "openssl pkey -in /"]);
    }
}

#[test]
fn files_that_cannot_be_read_or_that_all_can() {
    let (cert, key) = made_out_to(HOST);
    let files = Files::with(&cert, &key);
    files.write("key.pem", &key, 0o644);
    files.fails(&["tls_key", "may read it", "chmod o-rwx /"]);
    files.write("key.pem", &key, 0o640);
    assert!(files.load().is_ok(), "a group may, as with ssl-cert");
    fs::remove_file(files.directory.path().join("key.pem")).unwrap();
    fs::remove_file(files.directory.path().join("cert.pem")).unwrap();
    // Both at once.
    files.fails(&[
        "key.pem: listen.tls_key: cannot",
        "cert.pem: listen.tls_cert: cannot",
    ]);
    fs::create_dir(files.directory.path().join("cert.pem")).unwrap();
    files.fails(&["is not a regular file"]);
}

#[test]
fn a_credential_is_looked_for_where_systemd_puts_it() {
    let (cert, key) = made_out_to(HOST);
    let mut files = Files::with(cert, key);
    files.config.listen.tls_key = Some(PemFile::Credential("key.pem".into()));
    assert!(files.load().is_ok());
    let error = load(&files.config, None, day(2030, 6, 1)).err().unwrap();
    let error = error.to_string();
    assert!(error.contains("LoadCredential=key.pem:"), "{error}");
}

#[test]
fn bytes_that_are_no_certificate_have_no_end() {
    let (cert, _) = made_out_to(HOST);
    let der = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
    assert!(facts(&der).is_some());
    for cut in 0..der.len() {
        assert!(facts(&der[..cut]).is_none());
    }
    for flipped in 0..der.len().min(200) {
        let mut der = der.to_vec();
        der[flipped] ^= 0x55;
        facts(&der);
    }
}
