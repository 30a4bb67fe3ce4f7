"""The language of the pages: English, or Chinese where Airflow is shown in it."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request

COOKIE = "vod_language"
"""Set by the page's script to the language that Airflow is shown in, which only the browser knows."""

CHINESE = {
    # States
    "waiting": "等待中",
    "extracting": "提取中",
    "ready": "音频就绪",
    "transcribing": "转写中",
    "done": "完成",
    "doubtful": "存疑",
    "failed": "失败",
    "stopped": "已停止",
    # Library
    "Videos": "视频",
    "All videos": "全部视频",
    "Title, file name, id or first words": "标题、文件名、ID 或文字稿开头",
    "Last 30 days": "最近 30 天",
    "Videos of each of the last 30 days": "最近 30 天每天的视频",
    "{assets} with audio, {failed} failed, {time} of audio": "{assets} 个有音频,{failed} 个失败,音频 {time}",
    "From": "从",
    "To": "到",
    "Search": "搜索",
    "State": "状态",
    "all": "全部",
    "Title": "标题",
    "Engine": "引擎",
    "Duration": "时长",
    "Language": "语言",
    "When": "时间",
    "Run": "运行",
    "Newer": "较新",
    "Older": "较早",
    "Pages": "分页",
    "{first} to {last} of {total}": "第 {first} 至 {last} 条,共 {total} 条",
    "No video matches.": "没有匹配的视频。",
    "Show all": "显示全部",
    "No videos yet.": "还没有视频。",
    "Runs with ExtractAudioOperator fill this page: trigger extract_and_transcribe, for example.": (
        "使用 ExtractAudioOperator 的运行会填充此页面,例如触发 extract_and_transcribe。"
    ),
    "Only this run": "仅此次运行",
    "All runs": "全部运行",
    # Asset
    "Listen": "收听",
    "Transcript": "文字稿",
    "There is no audio yet.": "还没有音频。",
    "There is no transcript.": "没有文字稿。",
    "It is being transcribed.": "正在转写。",
    "Loading the transcript …": "正在加载文字稿……",
    "Nothing was said.": "没有人说话。",
    "The transcript cannot be shown.": "无法显示文字稿。",
    "The audio cannot be played.": "无法播放音频。",
    "Unsure words are underlined. Click a word to hear it.": "下划线表示不确定的词。点击词语即可收听。",
    "Keys: space plays and pauses, arrows go 5 s back and ahead, / searches.": (
        "按键:空格播放或暂停,左右方向键后退或前进 5 秒,/ 搜索。"
    ),
    "Find in the transcript": "在文字稿中查找",
    "Downloads": "下载",
    "Audio": "音频",
    "Why it failed": "失败原因",
    "Please check": "请检查",
    "Details": "详情",
    "Source": "来源",
    "Format": "格式",
    "Size": "大小",
    "Sample rate": "采样率",
    "Track": "音轨",
    "Model": "模型",
    "Confidence": "置信度",
    "History": "历史",
    "Audio extraction": "提取音频",
    "Transcription": "转写",
    "try {number}": "第 {number} 次尝试",
    "Log": "日志",
    "Extract again": "重新提取",
    "Start a run of {dag} that extracts the audio of this video again? VOD counts it as a new extraction.": (
        "要启动 {dag} 的一次运行来重新提取此视频的音频吗?VOD 会将其计为一次新的提取。"
    ),
    "Transcribe again with …": "重新转写……",
    "Start a run of {dag} that transcribes this audio again? The transcript that is there stays.": (
        "要启动 {dag} 的一次运行来重新识别此音频吗?现有的文字稿会保留。"
    ),
    "Language spoken (empty: recognised)": "语言(留空则自动识别)",
    "Start": "启动",
    "Cancel": "取消",
    "Close": "关闭",
    "Started. Open the run": "已启动。打开该运行",
    # Run
    "Retry the failed ones": "重试失败项",
    "Clear the failed tasks of this run, so that they run again? Finished videos are left alone.": (
        "要清除此次运行中失败的任务并重新执行吗?已完成的不会重复执行。"
    ),
    "Retry": "重试",
    "{count} tasks were cleared and run again now.": "已清除 {count} 个任务,现在重新执行。",
    "It did not work: {reason}": "未成功:{reason}",
    "{task} failed": "{task} 失败",
    "In the library": "在视频库中查看",
    "Reason": "原因",
    "{count} videos planned": "待处理视频:{count}",
    "{count} of the list had been done before": "列表中此前已完成:{count}",
    "{done} done, {failed} failed, of {total}": "完成 {done},失败 {failed},共 {total}",
    "Tasks": "任务",
    "{rate} a minute, about {time} left": "每分钟 {rate} 个,约剩 {time}",
    "This task has not worked on videos.": "此任务没有处理过视频。",
    "Videos of this task": "此任务的视频",
    "In progress": "进行中",
    "and {count} more": "以及另外 {count} 个",
    "No task of this run has worked on videos.": "此次运行没有任务处理过视频。",
    "No task of this run has begun to work on videos.": "此次运行还没有任务开始处理视频。",
    "Videos of this run": "此次运行的视频",
    "The first {count} are shown.": "仅显示前 {count} 个。",
    # Troubles
    "Your login has expired": "登录已过期",
    "Reload Airflow in this browser tab and log in again.": "请在浏览器中重新加载 Airflow 并重新登录。",
    "You may not see this": "您无权查看",
    "It takes the right to read the results (XCom) of the DAG. Ask an administrator of Airflow.": (
        "需要读取该 DAG 结果(XCom)的权限。请联系 Airflow 管理员。"
    ),
    "This is not here": "未找到",
    "There is no such video or run, or you may not see it.": "没有这个视频或运行,或者您无权查看。",
    "Something went wrong": "出错了",
    "The log of Airflow's API server says what. Reload the page to try again.": (
        "Airflow API 服务器的日志中有说明。请重新加载页面再试。"
    ),
    "Back to all videos": "返回全部视频",
}
"""By the English text."""

Speak = Callable[..., str]


def language(request: Request) -> str:
    """``zh`` or ``en``: as Airflow is shown, or as the browser prefers."""
    wanted = request.cookies.get(COOKIE) or request.headers.get("Accept-Language", "")
    return "zh" if wanted.strip().lower().startswith("zh") else "en"


def speak(code: str) -> Speak:
    """A function that gives a text in a language, with its ``{names}`` filled in."""

    def spoken(text: str, **values: object) -> str:
        phrase = CHINESE.get(text, text) if code == "zh" else text
        return phrase.format(**values) if values else phrase

    return spoken
