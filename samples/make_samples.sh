#!/bin/sh
# Makes the videos of this folder from the texts in samples.json.
# Needs an ffmpeg with flite, libx264, libmp3lame, libopus and drawtext (Debian's has them all), espeak-ng for the
# German voice, python3, and the font DejaVu Sans.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

title() {
    python3 -c 'import json, sys
print(*(s["title"] for s in json.load(open("samples.json", encoding="utf-8")) if s["file"] == sys.argv[1]))' "$1"
}

# text FILE TRACK: what is said in an audio track of a sample.
text() {
    python3 -c 'import json, sys
samples = json.load(open("samples.json", encoding="utf-8"))
print(*(s["audio"][int(sys.argv[2])]["text"] for s in samples if s["file"] == sys.argv[1]))' "$1" "$2"
}

# speak VOICE TEXT OUT.wav: one sentence after the other, with a pause after each.
speak() {
    : > "$work/list"
    n=0
    printf '%s\n' "$2" | sed 's/\. /.\n/g' > "$work/sentences"
    while IFS= read -r sentence; do
        n=$((n + 1))
        printf '%s' "$sentence" > "$work/sentence"
        if [ "$1" = german ]; then
            espeak-ng -v de -s 140 -f "$work/sentence" -w "$work/voice.wav"
        else
            ffmpeg -nostdin -v error -y -f lavfi -i "flite=textfile=$work/sentence:voice=$1" "$work/voice.wav"
        fi
        ffmpeg -nostdin -v error -y -i "$work/voice.wav" -af apad=pad_dur=0.6 -ar 48000 -ac 1 "$work/$n.wav"
        echo "file $work/$n.wav" >> "$work/list"
    done < "$work/sentences"
    ffmpeg -nostdin -v error -y -f concat -safe 0 -i "$work/list" -c copy "$3"
}

# picture VOICE.wav TITLE COLOUR COLOUR: slow colours, the title, and the voice as a wave.
picture() {
    printf '%s' "$2" > "$work/title"
    ffmpeg -nostdin -v error -y -i "$1" -f lavfi -i "gradients=s=320x180:r=12:c0=$3:c1=$4:x0=0:y0=0:x1=320:y1=180:speed=0.01:seed=2" \
        -filter_complex "[0:a]showwaves=s=320x50:r=12:mode=cline:colors=white[wave];
            [1:v][wave]overlay=0:110:shortest=1,drawtext=font=DejaVu Sans:textfile=$work/title:fontsize=24:fontcolor=white:x=(w-tw)/2:y=50[v]" \
        -map '[v]' -c:v libx264 -preset veryslow -crf 30 -pix_fmt yuv420p -bf 0 "$work/picture.mp4"
}

# finish FILE ARGUMENTS...: the picture and what the arguments add, without any other tag than the title.
finish() {
    file=$1
    shift
    ffmpeg -nostdin -v error -y -i "$work/picture.mp4" "$@" -c:v copy -map_metadata -1 \
        -metadata "title=$(title "$file")" -fflags +bitexact -flags:a +bitexact "$file"
}

speak slt "$(text library.mp4 0)" "$work/english.wav"
picture "$work/english.wav" "$(title library.mp4)" 0x204060 0x8040a0
finish library.mp4 -i "$work/english.wav" -map 0:v -map 1:a -metadata:s:a:0 language=eng -c:a aac -b:a 64k -movflags +faststart

speak awb "$(text train.mkv 0)" "$work/english.wav"
speak german "$(text train.mkv 1)" "$work/german.wav"
picture "$work/english.wav" "$(title train.mkv)" 0x602020 0xc08020
finish train.mkv -i "$work/english.wav" -i "$work/german.wav" -map 0:v -map 1:a -map 2:a -c:a libopus -b:a 40k \
    -metadata:s:a:0 language=eng -disposition:a:0 default -metadata:s:a:1 language=ger -disposition:a:1 0

speak rms "$(text lake.mov 0)" "$work/english.wav"
picture "$work/english.wav" "$(title lake.mov)" 0x103050 0x20a0a0
finish lake.mov -i "$work/english.wav" -map 0:v -map 1:a -metadata:s:a:0 language=eng -c:a libmp3lame -b:a 64k

ls -l library.mp4 train.mkv lake.mov
