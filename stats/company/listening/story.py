"""What the listening service tried in two years: 60 ideas of eight teams, and six changes that nobody measured.

What is written down is what people chose: the idea, whose it was, which inputs it works through. How well it worked is
drawn (`trials`). Inputs by letter: `a` active listeners, `s` sessions per listener, `h` hours per session.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

WEEKS: Final = 104
"""Weeks of history before the company's end; `FUTURE_WEEKS` more are only in the truth."""
FUTURE_WEEKS: Final = 26
OWNERS: Final = {
    "home": "Ada", "search": "Bruno", "player": "Carmen", "podcasts": "Dimitri", "playlists": "Elif",
    "growth": "Farid", "social": "Greta", "devices": "Hugo",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Idea:
    """An experiment before it ran. `moves` are the letters of the inputs it works through, the first one most."""

    key: str
    name: str
    hypothesis: str
    team: str
    moves: str


@dataclass(frozen=True, slots=True)
class Blind:
    """A launch that nobody tested: its first week, whether it came in steps, and what it was."""

    key: str
    name: str
    team: str
    week: int
    in_steps: bool


_TOLD: Final = """
fresh_shelf|Shelf of fresh releases|New music up front gives a reason to come back.|home|as
resume_card|Resume where you stopped|One tap back into an episode starts more sessions.|home|s
morning_greeting|Greeting by time of day|A home that knows the hour brings people back in the morning.|home|a
smaller_banners|Smaller banners|Less promotion leaves more room for what people came for.|home|sh
mood_tiles|Tiles by mood|Choosing a mood is faster than searching.|home|sh
shorter_home|Home with fewer rows|Fewer choices start a session sooner.|home|s
editors_weekend|Editors' weekend picks|A hand-made shelf makes weekends longer.|home|h
local_charts|Charts of your city|Local charts bring new listeners back.|home|a
typo_tolerance|Search that forgives typing|Fewer dead ends mean more sessions.|search|s
voice_search|Search by voice|Speaking is easier than typing on the move.|search|sa
lyrics_search|Search by a line of the song|People remember lines, not titles.|search|s
recent_searches|Recent searches first|Most searches are repeats.|search|s
search_preview|Listen from the results|Hearing a second tells more than a title.|search|sh
genre_filters|Filters by genre|A narrow list leads to longer listening.|search|h
trending_searches|Trending searches|What others look for is worth a try.|search|as
similar_artists|Similar artists on every page|The next artist is one tap away.|search|h
gapless_play|Playing without gaps|No silence between songs keeps the session going.|player|h
sleep_timer|Sleep timer on the first screen|People who can fall asleep to it start in the evening.|player|sh
faster_start|Song starts in half the time|A player that answers at once is used more often.|player|sa
queue_drag|Queue you can drag|Control over what is next makes sessions longer.|player|h
crossfade|Crossfade by default|Smooth changes keep people listening.|player|h
bigger_buttons|Bigger buttons|Fewer missed taps, less frustration.|player|hs
skip_back|Skip back fifteen seconds|What was missed can be heard again.|player|h
lossless_wifi|Lossless sound on wireless|Better sound is listened to for longer.|player|h
louder_previews|Louder previews|Previews people can hear start more sessions.|player|s
episode_notes|Notes beside episodes|Who knows what comes stays for it.|podcasts|h
trim_silence|Trim silence|Shorter pauses leave time for another episode.|podcasts|hs
chapter_marks|Chapters in long episodes|Finding the part that matters starts more sessions.|podcasts|s
new_episode_push|Push for new episodes|A message when a show returns brings its people back.|podcasts|as
show_rankings|Shows ranked by finishers|Shows that are finished are worth starting.|podcasts|h
preview_feed|Feed of short previews|Previews one after another start many sessions.|podcasts|sh
speed_by_show|Speed remembered by show|The right speed without asking keeps people in the show.|podcasts|h
download_ahead|Next episodes loaded ahead|What is on the phone is heard on the train.|podcasts|ha
daily_mix|A mix for every day|Something new each day makes a habit.|playlists|as
mix_by_activity|Mixes for running and cooking|A mix for what people do fits their day.|playlists|sh
longer_mixes|Mixes twice as long|A longer mix plays for longer.|playlists|h
shared_mix|A mix for two|A mix shared with a friend is opened by both.|playlists|as
playlist_covers|Covers from your songs|A playlist with a face is opened more often.|playlists|s
add_suggestions|Suggested songs below a playlist|A playlist that grows is played for longer.|playlists|h
smart_shuffle|Shuffle that knows your favourites|A better order leaves fewer reasons to stop.|playlists|hs
undo_removal|Undo a removed song|Mistakes that can be undone leave lists whole.|playlists|h
welcome_tour|Tour for new listeners|Who knows what there is comes back.|growth|a
artist_picker|Three favourite artists at the start|A first week that fits makes a second one.|growth|as
winback_mail|Mail to those who left|A good reason brings some back.|growth|a
trial_reminder|Reminder before the trial ends|Honest reminders keep trust and listeners.|growth|a
weekly_recap|Recap of the week|Seeing the week makes the next one.|growth|as
quiet_notifications|Fewer notifications|Who is not bothered stays.|growth|as
student_home|Home for students|Students listen while they study.|growth|ah
birthday_mix|A mix on your birthday|A small gift is remembered.|growth|a
friends_now|What friends play now|Friends' music is worth a session.|social|sa
group_listening|Listening together|A shared session lasts longer.|social|hs
share_moment|Share a moment of a song|What is shared brings others back.|social|a
comments_on_shows|Comments on shows|A conversation brings people back to a show.|social|as
follow_artists|Follow from the player|Who follows artists comes back for them.|social|a
car_home|Home screen for the car|Big and few choices fit the road.|devices|sh
speaker_handover|Move a session to the speaker|A session that moves along does not end at the door.|devices|h
watch_player|Player on the watch|Music without the phone makes more sessions.|devices|s
tv_lyrics|Lyrics on the television|Singing along keeps the room listening.|devices|h
offline_tab|A tab for what is offline|Listening does not stop where the net does.|devices|hs
battery_saver|Half the battery|A player that spares the battery is left on.|devices|h
"""
IDEAS: Final = tuple(Idea(*line.split("|")) for line in _TOLD.strip().splitlines())
PLACE: Final = {idea.key: number for number, idea in enumerate(IDEAS)}
BROKEN: Final = "car_home"
"""Loses every twentieth listener of its treatment: no comparison can be trusted."""
PEEKED: Final = "louder_previews"
"""Has no planned end and stops at the first look that is good enough."""
GAMED: Final = "preview_feed"
"""More sessions and fewer hours: the input moves, the North Star does not follow."""
PAIRS: Final = (("daily_mix", "mix_by_activity"), ("weekly_recap", "quiet_notifications"))
"""Tried on the same listeners at the same time, and in each other's way."""
RUNNING: Final = ("tv_lyrics", "battery_saver")
CHEAP: Final = frozenset(
    {
        "fresh_shelf", "resume_card", "shorter_home", "typo_tolerance", "recent_searches", "similar_artists",
        "gapless_play", "faster_start", "bigger_buttons", "episode_notes", "chapter_marks", "speed_by_show",
        "playlist_covers", "undo_removal", "artist_picker", "trial_reminder", "follow_artists", "offline_tab",
    }
)  # fmt: skip
"""Cost nothing to keep: the company ships them on weaker evidence."""
BLINDS: Final = (
    Blind("new_brand", "New name and colours", "growth", 17, False),
    Blind("family_plan", "Family plan", "growth", 33, True),
    Blind("faster_servers", "Servers closer to listeners", "player", 46, True),
    Blind("audiobooks", "Audiobooks", "podcasts", 61, True),
    Blind("privacy_screen", "Question about privacy", "home", 74, False),
    Blind("tablet_layout", "Layout for tablets", "devices", 89, True),
)
OUTAGE_WEEK: Final = 38
DISPUTE: Final = (72, 76)
"""Weeks [first, end) in which a label's music was missing; a launch at that time has it on record."""
HOLDOUT: Final = "holdout_of_half_a_year"
HOLDOUT_WEEKS: Final = 26
HOLDOUT_SHARE: Final = 0.05
