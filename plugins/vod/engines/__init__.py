"""The two ways to get audio out of a video: Huawei Cloud VOD, and ffmpeg on the worker."""
