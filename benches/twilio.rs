//! What Twilio's wires cost: a webhook's signature, and one media message each way.
//!
//! A call reads 50 media messages a second and writes some 10.

use divan::{Bencher, black_box};
use hume_bridge::{
    config::{PublicUrl, Secret},
    twilio::{
        media::{self, Inbound, Writer},
        signature::{SignatureHeaders, Verifier, sign},
        webhook::Form,
    },
};

fn main() {
    divan::main();
}

const FORM: &str = "AccountSid=AC0123456789abcdef0123456789abcdef&ApiVersion=2010-04-01\
    &CallSid=CA0123456789abcdef0123456789abcdef&CallStatus=ringing&Called=%2B15557654321\
    &CalledCity=&CalledCountry=US&CalledState=CA&CalledZip=&Caller=%2B15551234567\
    &CallerCity=SAN+JOS%C3%89&CallerCountry=US&CallerState=CA&CallerZip=95112&Direction=inbound\
    &From=%2B15551234567&FromCity=SAN+JOS%C3%89&FromCountry=US&FromState=CA&FromZip=95112\
    &To=%2B15557654321&ToCity=&ToCountry=US&ToState=CA&ToZip=";

#[divan::bench]
fn verify_a_webhook(bencher: Bencher) {
    let token = Secret::new("0123456789abcdef0123456789abcdef");
    let host = "bridge.example.com".to_owned();
    let url = PublicUrl {
        secure: true,
        host,
        port: None,
        prefix: String::new(),
    };
    let form = Form::parse(FORM.as_bytes()).unwrap();
    let signature = sign(&token, &url.http("/voice/incoming"), form.pairs());
    let verifier = Verifier::new(&token);
    bencher.bench(|| {
        let form = Form::parse(black_box(FORM.as_bytes())).unwrap();
        let headers = SignatureHeaders {
            signature: Some(&signature),
            settings: None,
        };
        assert!(verifier.verify_request(&url, "/voice/incoming", Some(form.pairs()), headers));
    });
}

#[divan::bench]
fn read_a_media_message(bencher: Bencher) {
    let payload = base64_simd::STANDARD.encode_to_string([0x7f; 160]);
    let text = format!(
        r#"{{"event":"media","sequenceNumber":"74","media":{{"track":"inbound","chunk":"73","timestamp":"1593","payload":"{payload}"}},"streamSid":"MZ0123456789abcdef0123456789abcdef"}}"#
    );
    let mut mulaw = Vec::with_capacity(160);
    bencher.bench_local(|| {
        mulaw.clear();
        let Ok(Inbound::Media { payload, .. }) = media::parse(black_box(&text)) else {
            unreachable!("the message above is a media message");
        };
        media::decode_payload(&payload, &mut mulaw).unwrap();
        mulaw.len()
    });
}

#[divan::bench]
fn write_800_bytes(bencher: Bencher) {
    let writer = Writer::new("MZ0123456789abcdef0123456789abcdef".parse().unwrap());
    bencher.bench(|| writer.media(black_box(&[0x55; 800])));
}
