#!/bin/sh
# Makes every clip of src/sim/speech from its words: espeak-ng speaks, sox brings it to the telephone.
# Usage: cd src/sim/speech && ./make.sh      (needs espeak-ng and sox; nothing else)
#
# Not run by any build: the clips are committed, so that the tests hear the same bytes everywhere.
set -eu

clip() { # name voice words-per-minute text
    espeak-ng -v "$2" -s "$3" -w "$1.wav" "$4"
    # -D and -R: no dither and a fixed seed, so that a second run gives the same bytes.
    # Silence is cut from both ends (reverse twice), 20 ms of it put back, and the peak set to -6 dBFS.
    sox -D -R "$1.wav" -t raw -r 8000 -c 1 -e mu-law "$1.ulaw" \
        rate -h 8000 highpass 150 \
        silence 1 0.01 0.5% reverse silence 1 0.01 0.5% reverse \
        norm -6 pad 0.02 0.02
    rm "$1.wav"
}

caller() { clip "$1" en-gb 160 "$2"; }
agent() { clip "$1" en-us+f3 165 "$2"; }

caller caller-hours     "Hello, what are your opening hours?"
caller caller-interrupt "Sorry, just the Saturday hours please."
caller caller-thanks    "Great, thank you. That's all, goodbye."
caller caller-wait      "Oh wait, one more thing."
caller caller-yes       "Yes, please."

agent agent-greeting "Hello, this is the harbour museum. How can I help you?"
agent agent-hours    "We are open from nine until five, Monday to Wednesday, from nine until eight on Thursday and Friday, and from ten until four at the weekend."
agent agent-saturday "On Saturday we are open from ten until four."
agent agent-goodbye  "You're welcome. Thank you for calling, and goodbye!"
agent agent-more     "Of course, go ahead."
